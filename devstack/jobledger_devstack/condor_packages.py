"""HTCondor's binaries, and OpenSSH's beside them: Debian packages, unpacked into the parts cache and made to run from there.

No root and no installation: apt-get downloads with a configuration of its own (and Debian's own signatures checked), dpkg-deb
unpacks, patchelf points every program to the libraries that came with it. The result is not relocatable.
"""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import subprocess
from pathlib import Path

from jobledger_devstack.cache import Report, ensure_entry
from jobledger_devstack.errors import FetchFailed, MissingPrerequisite
from jobledger_devstack.process import Argv, run_tool

SUITE = "trixie"
"""The Debian release that has HTCondor (23.9); an older machine can run it because its libraries come along."""
KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
MIRROR_VARIABLE = "JOBLEDGER_DEBIAN_MIRROR"
PACKAGES = (
    "condor",
    "patchelf",
    "libc6",
    "libstdc++6",
    "libgcc-s1",
    "libgomp1",
    "libssl3t64",
    "libcurl4t64",
    "libbrotli1",
    "libcom-err2",
    "libffi8",
    "libgmp10",
    "libgnutls30t64",
    "libgssapi-krb5-2",
    "libhogweed6t64",
    "libidn2-0",
    "libk5crypto3",
    "libkeyutils1",
    "libkrb5-3",
    "libkrb5support0",
    "libldap2",
    "libnettle8t64",
    "libnghttp2-14",
    "libnghttp3-9",
    "libp11-kit0",
    "libpcre2-8-0",
    "libpsl5t64",
    "librtmp1",
    "libsasl2-2",
    "libssh2-1t64",
    "libtasn1-6",
    "libunistring5",
    "libuuid1",
    "libzstd1",
    "zlib1g",
    "libscitokens0t64",
    "libmunge2",
    "libvomsapi1t64",
    "libsqlite3-0",
    "libexpat1",
    "libaudit1",
    "libcap-ng0",
    "libcrypt1",
    "libpam0g",
    "libselinux1",
    "openssh-server",
    "openssh-sftp-server",
    "openssh-client",
    "libwrap0",
    "libwtmpdb0",
)
_LIBS = "usr/lib/x86_64-linux-gnu"
_PROGRAMS = ("usr/sbin", "usr/bin", "usr/libexec/condor", "usr/lib/openssh")


def require_debian_tools() -> None:
    """Raise `MissingPrerequisite`, naming everything that is missing, when this machine cannot unpack Debian packages."""
    missing = []
    if platform.machine() != "x86_64":
        missing.append(f"an x86_64 machine (this is {platform.machine()})")
    missing += [f"the program {tool}" for tool in ("apt-get", "apt-config", "dpkg-deb") if shutil.which(tool) is None]
    if not KEYRING.exists():
        missing.append(f"{KEYRING} (the package debian-archive-keyring)")
    if missing:
        raise MissingPrerequisite(
            f"our own HTCondor pool is unpacked from Debian packages and lacks {'; '.join(missing)}. "
            "Leave the part condor out, or use Debian"
        )


def ensure_binaries(cache: Path, home: Path, report: Report) -> Path:
    """The folder that holds `usr/sbin/condor_master` and the rest, fetched if need be."""
    key = hashlib.sha256("\n".join([SUITE, *PACKAGES]).encode()).hexdigest()[:12]
    name = f"condor-{SUITE}-{key}"
    if not (cache / name / ".ready").exists():
        require_debian_tools()
    return ensure_entry(cache, name, lambda folder: _build(folder, home, report)) / "root"


def _build(folder: Path, home: Path, report: Report) -> None:
    apt, debs, root = folder / "apt", folder / "debs", folder / "root"
    for made in (apt / "state/lists/partial", apt / "cache/archives/partial", apt / "empty.d", debs, root):
        made.mkdir(parents=True)
    env = dict(os.environ)
    report("asking for Debian's package lists", None)
    targets = run_tool(home, "condor", ["apt-get", "indextargets", "--format", TARGET_FORMAT, "Created-By: Packages"], env=env)
    mirror = os.environ.get(MIRROR_VARIABLE) or choose_mirror(targets)
    acquire = acquire_settings(run_tool(home, "condor", ["apt-config", "dump"], env=env))
    (apt / "status").touch()
    (apt / "sources.list").write_text(f"deb [signed-by={KEYRING}] {mirror} {SUITE} main\n")
    (apt / "apt.conf").write_text(apt_conf(apt, acquire))
    env["APT_CONFIG"] = str(apt / "apt.conf")
    run_tool(home, "condor", ["apt-get", "-qq", "update"], env=env)
    report(f"downloading HTCondor ({len(PACKAGES)} packages, 27 MB)", 20)
    run_tool(home, "condor", ["apt-get", "-qq", "download", *PACKAGES], env=env, cwd=debs)
    archives = sorted(debs.glob("*.deb"))
    for number, archive in enumerate(archives):
        report("unpacking HTCondor", 50 + 25 * number // len(archives))
        run_tool(home, "condor", ["dpkg-deb", "-x", archive, root])
    report("making HTCondor run from here", 75)
    _patch(root, folder / "patchelf", home)
    (folder / "packages.txt").write_text("".join(f"{archive.stem}\n" for archive in archives))
    for litter in (apt, debs, root / "usr/share/doc", root / "usr/share/man", root / "usr/share/locale"):
        shutil.rmtree(litter, ignore_errors=True)


TARGET_FORMAT = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)"


def choose_mirror(index_targets: str) -> str:
    """The Debian mirror among this machine's own apt sources, out of `apt-get indextargets` in `TARGET_FORMAT`."""
    fallback = ""
    for line in index_targets.splitlines():
        uri, release, component, origin = [*line.split("|"), "", "", ""][:4]
        if component != "main" or "security" in release or "security" in uri:
            continue
        if uri.rstrip("/").endswith("/debian"):
            return uri
        # A snapshot or a company's mirror may be called anything; apt knows whose packages it carries once it has the lists.
        if origin == "Debian":
            fallback = fallback or uri
    if not fallback:
        raise MissingPrerequisite(f"no Debian mirror among this machine's apt sources; name one in {MIRROR_VARIABLE}")
    return fallback


def acquire_settings(config_dump: str) -> list[str]:
    """The machine's own settings for downloads (proxies, certificates) out of `apt-config dump`; its index extras stay out."""
    return [
        line
        for line in config_dump.splitlines()
        if line.startswith("Acquire::") and not line.startswith(("Acquire::IndexTargets", "Acquire::Languages"))
    ]


def apt_conf(apt: Path, acquire: list[str]) -> str:
    """apt's configuration: everything below `apt`, nothing of the machine's but how it downloads."""
    lines = [
        f'Dir::Etc::main "{apt}/none";',
        *(f'Dir::Etc::{name} "{apt}/empty.d";' for name in ("parts", "sourceparts", "preferencesparts")),
        f'Dir::Etc::sourcelist "{apt}/sources.list";',
        f'Dir::State "{apt}/state";',
        f'Dir::State::status "{apt}/status";',
        f'Dir::Cache "{apt}/cache";',
        f'Dir::Log "{apt}";',
        'Dir::Cache::pkgcache "";',
        'Dir::Cache::srcpkgcache "";',
        'APT::Architecture "amd64";',
        'APT::Architectures "amd64";',
        'APT::Sandbox::User "";',
        'Acquire::Languages "none";',
        'Debug::NoLocking "true";',
        *acquire,
    ]
    return "\n".join(lines) + "\n"


def _patch(root: Path, patchelf: Path, home: Path) -> None:
    libs = root / _LIBS
    loader = next((path for path in (root / "usr/lib64/ld-linux-x86-64.so.2", libs / "ld-linux-x86-64.so.2") if path.exists()), None)
    if loader is None:
        raise FetchFailed("the C library's package has no loader where it is expected")
    # patchelf is one of the programs that get patched: run a copy, through the loader that came along.
    shutil.copy(root / "usr/bin/patchelf", patchelf)
    # DT_RPATH and not RUNPATH: it also holds for libraries that the daemons load while they run.
    argv: Argv = [loader, "--library-path", libs, patchelf, "--force-rpath", "--set-rpath", f"{root}/usr/lib:{libs}:{root}/usr/lib/condor"]
    programs = [path for folder in _PROGRAMS for path in sorted((root / folder).iterdir()) if _is_elf(path)]
    for path in programs:
        path.chmod(path.stat().st_mode | 0o200)
        has_loader = subprocess.run([*argv[:4], "--print-interpreter", path], capture_output=True, check=False).returncode == 0
        interpreter: Argv = ["--set-interpreter", loader] if has_loader else []
        run_tool(home, "condor", [*argv, *interpreter, path])


def _is_elf(path: Path) -> bool:
    if path.is_symlink() or not path.is_file():
        return False
    with path.open("rb") as file:
        return file.read(4) == b"\x7fELF"
