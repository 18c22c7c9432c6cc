import subprocess
import sys


def test_fold_is_a_function_whatever_was_imported_before():
    code = (
        "import export.folding, export.commands.fold, export.assemble\n"
        "from export import fold\n"
        "assert callable(fold), fold"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


def test_importing_the_package_costs_nothing():
    code = "import sys, export; sys.exit(bool({'torch', 'onnx', 'onnxruntime'} & set(sys.modules)))"
    subprocess.run([sys.executable, "-c", code], check=True)
