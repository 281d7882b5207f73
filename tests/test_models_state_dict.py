"""State dicts as arrays: what torch saved, with and without torch."""

from __future__ import annotations

import pickle
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from wsi_engine.errors import ModelError
from wsi_engine.models.state_dict import read_state, require_fit

WHOLE = torch.arange(24, dtype=torch.float32).reshape(4, 6)
TENSORS = {
    "plain": WHOLE,
    "a part": WHOLE[1:3, 2:5],
    "turned": WHOLE.T,
    "half": WHOLE.half(),
    "double": WHOLE.double(),
    "counted": torch.tensor(7),
    "empty": torch.zeros(0, 3),
}


def test_tensors_come_back_as_they_were(tmp_path: Path):
    torch.save(TENSORS, tmp_path / "state.pth")
    state = read_state(tmp_path / "state.pth")
    assert state.keys() == TENSORS.keys()
    for name, tensor in TENSORS.items():
        np.testing.assert_array_equal(state[name], tensor.numpy(), strict=True)


@pytest.mark.parametrize("form", ["desc", "old", "bfloat16", "bfloat16.safetensors"])
def test_other_forms_are_read_by_torch(tmp_path: Path, form: str):
    path = tmp_path / form
    state = {"weight": WHOLE.bfloat16() if "bfloat16" in form else WHOLE}
    if form.endswith(".safetensors"):
        save_file(state, path)
    elif form == "old":
        torch.save(state, path, _use_new_zipfile_serialization=False)
    else:
        torch.save({"desc": state} if form == "desc" else state, path)
    np.testing.assert_array_equal(read_state(path)["weight"], WHOLE.numpy())


def test_torch_is_not_imported_for_what_it_saves_today(tmp_path: Path):
    torch.save(TENSORS, tmp_path / "state.pth")
    script = f"""
import sys
from pathlib import Path
from wsi_engine.models.state_dict import read_state
assert len(read_state(Path({str(tmp_path / "state.pth")!r}))) == {len(TENSORS)}
assert "torch" not in sys.modules
"""
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


class Harmful:
    """Writes a file when it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[object, tuple[Path]]:
        return Path.touch, (self.path,)


def test_a_program_in_a_file_is_not_run(tmp_path: Path):
    path, touched = tmp_path / "state.pth", tmp_path / "touched"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("state/data.pkl", pickle.dumps({"weight": Harmful(touched)}))
        archive.writestr("state/version", "3\n")
    with pytest.raises(ModelError, match=r"state\.pth is no weights file"):
        read_state(path)
    assert not touched.exists()


def test_a_tensor_beyond_its_storage_is_refused(tmp_path: Path):
    torch.save({"weight": WHOLE.flatten()}, tmp_path / "whole.pth")
    path = tmp_path / "short.pth"
    with (
        zipfile.ZipFile(tmp_path / "whole.pth") as whole,
        zipfile.ZipFile(path, "w") as short,
    ):
        for name in whole.namelist():
            content = whole.read(name)
            short.writestr(name, content[:-4] if name.endswith("data/0") else content)
    with pytest.raises(ModelError, match="is no weights file"):
        read_state(path)


def test_the_first_parameters_that_do_not_fit_are_named(tmp_path: Path):
    state = {"a": np.zeros(3), "b": np.zeros((2, 2))}
    require_fit(state, {"a": (3,), "b": (2, 2)}, tmp_path)
    with pytest.raises(ModelError, match=r"b \(\(2, 2\) in the file, \(4,\) in the network\)$"):
        require_fit(state, {"a": (3,), "b": (4,)}, tmp_path)
