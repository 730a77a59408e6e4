"""The schedulers service: carries runs out on HTCondor and Dask."""
