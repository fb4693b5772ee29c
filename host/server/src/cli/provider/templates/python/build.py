"""Makes the component of src/app.py and what it imports: {{name}}.wasm.

What that needs is installed into .venv first, where it is not there yet. Beside the component it
writes bindings/: the words of wit/ in Python, for the tests and for your editor.
"""

import os
import shutil
import subprocess
import sys
import venv
from pathlib import Path

HERE = Path(__file__).parent
VENV = HERE / ".venv"
PROGRAMS = VENV / ("Scripts" if os.name == "nt" else "bin")
REQUIREMENTS = HERE / "requirements.txt"


def main():
    # A copy of what was installed, so that a change is noticed.
    installed = VENV / "requirements.txt"
    if not installed.is_file() or installed.read_bytes() != REQUIREMENTS.read_bytes():
        venv.create(VENV, clear=True, with_pip=True)
        run("python", "-m", "pip", "install", "--quiet", "--require-hashes", "-r", REQUIREMENTS)
        shutil.copy(REQUIREMENTS, installed)
    world = ["--wit-path", "wit", "--world", "countersign:provider/provider"]
    shutil.rmtree(HERE / "bindings", ignore_errors=True)
    run("componentize-py", *world, "bindings", "bindings")
    output = HERE / "{{name}}.wasm"
    run("componentize-py", *world, "componentize", "--python-path", "src", "app", "--output", output)
    print(f"{output.name}: {output.stat().st_size / 2**20:.1f} MiB")


def run(program, *args):
    finished = subprocess.run([PROGRAMS / program, *args], cwd=HERE)
    if finished.returncode != 0:
        sys.exit(finished.returncode)


if __name__ == "__main__":
    main()
