"""Makes the files of an image that carries conda, with a channel of its own, for the tests of
`conda_file`: Debian's trixie and more. Called by `cargo xtask test`; downloads nothing.

    python3 conda_base.py WHEELS BOOKWORM.tar TRIXIE.tar OUT.tar

WHEELS holds wheels from PyPI for Python 3.11, which conda brings along as it always does. conda itself is among them: conda-lock carries all of conda 24.7.1
as a vendored package, which is taken out and runs under its own name. The channel has two
packages, as conda writes them: `python` 3.11, from the files of Debian's bookworm, and `pip`,
from its wheel. The wheel of `six` goes beside the channel, for `pip:`.
"""

import hashlib
import io
import json
import pathlib
import shutil
import sys
import tarfile
import zipfile

CONDA = "opt/conda"
SITE = f"{CONDA}/site"
CHANNEL = "opt/channel"
RUN = """#!/bin/sh
PYTHONPATH=/opt/conda/site CONDARC=/opt/conda/.condarc exec /opt/conda/bin/python -m conda "$@"
"""
RC = "solver: classic\nsat_solver: pysat\ndefault_channels: []\nchannels: []\nnotify_outdated_conda: false\n"


def add(tar, name, data, mode=0o644):
    entry = tarfile.TarInfo(name)
    entry.size, entry.mode = len(data), mode
    tar.addfile(entry, io.BytesIO(data))


def link(tar, name, to):
    entry = tarfile.TarInfo(name)
    entry.type, entry.linkname = tarfile.SYMTYPE, to
    tar.addfile(entry)


def site(tar, wheels):
    """conda and what it needs."""
    for wheel in sorted(wheels.glob("*.whl")):
        if wheel.name.startswith(("six-", "pip-")):
            continue
        vendored = wheel.name.startswith("conda_lock-")
        with zipfile.ZipFile(wheel) as files:
            for name in files.namelist():
                inner, data = name, files.read(name)
                if vendored:
                    if not name.startswith("conda_lock/_vendor/conda/"):
                        continue
                    inner = name.removeprefix("conda_lock/_vendor/")
                    data = data.replace(b"conda_lock._vendor.conda", b"conda")
                if not name.endswith("/"):
                    add(tar, f"{SITE}/{inner}", data)


def package(name, version, files):
    """A package as conda takes it: `(path, data, mode or the target of a link)`."""
    paths, buffer = [], io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:bz2") as tar:
        for path, data, what in files:
            kind = {"_path": path, "path_type": "hardlink", "sha256": hashlib.sha256(data).hexdigest()}
            if isinstance(what, str):
                kind["path_type"] = "softlink"
                link(tar, path, what)
            else:
                add(tar, path, data, what)
            paths.append({**kind, "size_in_bytes": len(data)})
        index = {
            "arch": "x86_64", "build": "0", "build_number": 0, "depends": [], "name": name,
            "platform": "linux", "subdir": "linux-64", "version": version, "timestamp": 0,
        }
        add(tar, "info/index.json", json.dumps(index).encode())
        add(tar, "info/paths.json", json.dumps({"paths": paths, "paths_version": 1}).encode())
        add(tar, "info/files", "".join(f"{path['_path']}\n" for path in paths).encode())
    data = buffer.getvalue()
    record = {
        **index,
        "md5": hashlib.md5(data).hexdigest(),
        "sha256": hashlib.sha256(data).hexdigest(),
        "size": len(data),
    }
    return f"{name}-{version}-0.tar.bz2", data, record


def python(bookworm):
    """The files of Python 3.11, which finds its library beside itself wherever it lies."""
    files = [("bin/python", b"", "python3.11"), ("bin/python3", b"", "python3.11")]
    with tarfile.open(bookworm) as root:
        for member in root:
            path = member.name.removeprefix("./").removeprefix("usr/")
            wanted = path == "bin/python3.11" or path.startswith("lib/python3.11/")
            # Debian's own mark that pip is not to touch this Python.
            if not wanted or path.endswith("EXTERNALLY-MANAGED"):
                continue
            if member.isfile():
                files.append((path, root.extractfile(member).read(), member.mode))
            elif member.issym() and not member.linkname.startswith("/"):
                files.append((path, b"", member.linkname))
    return files


def pip(wheel):
    with zipfile.ZipFile(wheel) as found:
        files = [
            # Where Debian's Python looks for what others installed.
            (f"lib/python3/dist-packages/{name}", found.read(name), 0o644)
            for name in found.namelist()
            if not name.endswith("/")
        ]
    return package("pip", wheel.name.split("-")[1], files)


def main():
    wheels, bookworm, trixie, out = map(pathlib.Path, sys.argv[1:])
    shutil.copy(trixie, out)
    with tarfile.open(out, "a") as tar:
        site(tar, wheels)
        add(tar, f"{CONDA}/bin/conda", RUN.encode(), 0o755)
        add(tar, f"{CONDA}/.condarc", RC.encode())
        link(tar, "usr/bin/conda", "/opt/conda/bin/conda")
        files, records = python(bookworm), {}
        for path, data, what in files:
            if isinstance(what, str):
                link(tar, f"{CONDA}/{path}", what)
            else:
                add(tar, f"{CONDA}/{path}", data, what)
        packages = package("python", "3.11.2", files), pip(next(wheels.glob("pip-*.whl")))
        for name, data, record in packages:
            add(tar, f"{CHANNEL}/linux-64/{name}", data)
            records[name] = record
        for subdir, packages in (("linux-64", records), ("noarch", {})):
            index = {"info": {"subdir": subdir}, "packages": packages, "packages.conda": {}}
            add(tar, f"{CHANNEL}/{subdir}/repodata.json", json.dumps(index).encode())
        for wheel in wheels.glob("six-*.whl"):
            add(tar, f"opt/wheels/{wheel.name}", wheel.read_bytes())


main()
