"""What tests share: waiting, records, real parts."""
