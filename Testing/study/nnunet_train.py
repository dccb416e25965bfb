"""The outer bar: nnU-Net v2, its own plan and trainer, with the same processor time on the same split.

Runs with a Python that has nnunetv2 (an environment of its own; it is no dependency of DiffSeg), then is measured with
nnunet_measure.py:

    PYTHON Testing/study/nnunet_train.py --data DATA --out RUNS/60/nnunet.seed-0 --budget 60

One thread, float32, as nnU-Net runs on a processor. The number of iterations follows from the cost of one; the epochs
are short, so that the learning rate falls smoothly.
"""

import argparse
import json
import os
import shutil
import sys
import time
from pathlib import Path

ITERATIONS_PER_EPOCH = 5
PROBE = 3  # iterations that tell the cost of one


def main() -> int:
    """Prepare, train for the budget, and predict the validation cases with probabilities."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--budget", type=float, required=True, help="core-minutes of training")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    folders = {name: options.out / name for name in ("nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results")}
    os.environ.update({name: str(folder.resolve()) for name, folder in folders.items()})
    os.environ |= {"nnUNet_n_proc_DA": "1", "OMP_NUM_THREADS": "1", "nnUNet_compile": "f"}
    validation = _raw(options.data, folders["nnUNet_raw"] / "Dataset004_Hippocampus")
    import torch

    torch.manual_seed(options.seed)
    from nnunetv2.experiment_planning.plan_and_preprocess_api import (
        extract_fingerprints,
        plan_experiments,
        preprocess,
    )

    if not (folders["nnUNet_preprocessed"] / "Dataset004_Hippocampus" / "splits_final.json").exists():
        extract_fingerprints([4], num_processes=1)
        plan_experiments([4])
        preprocess([4], configurations=("3d_fullres",), num_processes=(1,))
        _split(folders["nnUNet_preprocessed"] / "Dataset004_Hippocampus", validation)
    torch.set_num_threads(1)
    os.environ |= {"nnUNet_n_proc_DA": "0"}  # augment in this thread, whose time is counted
    trainer = _trainer(torch.device("cpu"))
    trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch, trainer.save_every = PROBE, 1, 10**6
    trainer.on_train_start()
    trainer.on_train_epoch_start()
    batch = next(trainer.dataloader_train)
    trainer.train_step(batch)
    began = time.process_time()
    for _ in range(PROBE):
        trainer.train_step(next(trainer.dataloader_train))
    cost = (time.process_time() - began) / PROBE
    iterations = max(1, round(60.0 * options.budget / cost))
    print(f"{cost:.2f} processor seconds an iteration, {iterations} iterations", flush=True)
    trainer = _trainer(torch.device("cpu"))
    trainer.num_iterations_per_epoch, trainer.num_val_iterations_per_epoch = ITERATIONS_PER_EPOCH, 1
    trainer.num_epochs = max(1, round(iterations / ITERATIONS_PER_EPOCH))
    trainer.save_every, trainer.disable_checkpointing = 20, False
    began = time.process_time()
    trainer.run_training()
    spent = time.process_time() - began
    trainer.perform_actual_validation(save_probabilities=True)
    found = {
        "iterations": trainer.num_epochs * ITERATIONS_PER_EPOCH,
        "cpu_seconds_per_iteration": round(cost, 4),
        "cpu_seconds_with_validation": round(spent, 1),
        "predictions": str(Path(trainer.output_folder) / "validation"),
        "plan": trainer.configuration_manager.configuration,
    }
    (options.out / "training.json").write_text(json.dumps(found, indent=1, default=str) + "\n", encoding="utf-8")
    return 0


def _trainer(device):
    from nnunetv2.run.run_training import get_trainer_from_args

    return get_trainer_from_args("4", "3d_fullres", 0, "nnUNetTrainer", "nnUNetPlans", device=device)


def _raw(data: Path, folder: Path) -> list[str]:
    """The set in nnU-Net's layout; returns the names of the validation cases."""
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    names = []
    for label in sorted((data / "labelsTr").glob("*.nii.gz")):
        name = label.name.removesuffix(".nii.gz")
        names.append(name)
        shutil.copyfile(data / "imagesTr" / label.name, folder / "imagesTr" / f"{name}_0000.nii.gz")
        shutil.copyfile(label, folder / "labelsTr" / label.name)
    description = {
        "channel_names": {"0": "MRI"},
        "labels": {"background": 0, "Anterior": 1, "Posterior": 2},
        "numTraining": len(names),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(description), encoding="utf-8")
    validation: list[str] = json.loads((data / "splits.json").read_text(encoding="utf-8"))["val"]
    return validation


def _split(folder: Path, validation: list[str]) -> None:
    """The same split as ours, as nnU-Net's only fold."""
    names = [path.name.removesuffix(".nii.gz") for path in (folder / "gt_segmentations").glob("*.nii.gz")]
    train = sorted(set(names) - set(validation))
    (folder / "splits_final.json").write_text(json.dumps([{"train": train, "val": sorted(validation)}]))


if __name__ == "__main__":
    sys.exit(main())
