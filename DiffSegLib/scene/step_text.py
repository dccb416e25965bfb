"""What is told of a step of a run: whose it is, what changed, how large the structures are."""

from DiffSegLib.scene import plots
from DiffSegLib.scene.changes import changes, volumes_ml
from DiffSegLib.scene.logic import Segmentation
from DiffSegLib.scene.words import tr as _

NAMED_STRUCTURES = 6  # as many volumes are written out; the chart shows the rest


def words(run: Segmentation, step: int) -> str:
    """What is seen at a step (from 1): whose result it is, what changed, how large the structures are."""
    count, change = run.stepCount or len(run.masks), changes(run)[step - 1]
    head = _("{name}: step {step} of {steps}, the answer") if step == count else _("{name}: step {step} of {steps}")
    if step < count and run.finished:  # what is saved or measured now is this
        head = _("{name}: step {step} of {steps}, not the answer")
    name = run.node.GetName() if run.node is not None else run.volume.GetName()
    lines = [head.format(name=name, step=step, steps=count)]
    if step == 1:
        lines.append(_("The first answer, from the image and pure noise."))
    elif change.changed:
        text = _("{changed} voxels ({share:.1f} % of the structures) changed since step {before}.")
        share = 100.0 * change.changed / max(1, int(change.counts.sum()))
        lines.append(text.format(changed=change.changed, share=share, before=step - 1))
    else:
        lines.append(_("Nothing changed since step {before}: the model is sure.").format(before=step - 1))
    if run.labels:
        sizes = volumes_ml(run, change)
        shown = run.labels[:NAMED_STRUCTURES]
        texts = [f"{plots.segment_look(run, label)[0]} {sizes[label.value]:.2f} ml" for label in shown]
        if len(run.labels) > len(shown):
            texts.append(_("and {count} more").format(count=len(run.labels) - len(shown)))
        lines.append(", ".join(texts))
    return "\n".join(lines)


def details(run: Segmentation, step: int) -> str:
    """For who wants to know more of a step: the noise in the mask that the model was shown, and Dice."""
    text = _("Each step shows the model its last answer, mixed with less and less noise, and asks again.")
    if step <= len(run.noise):
        text += " " + _("At this step {percent:.0f} % noise.").format(percent=100 * run.noise[step - 1])
    dice = changes(run)[step - 1].meanDice
    if dice is not None:
        text += " " + _("Dice to step {before}: {dice:.3f}.").format(before=step - 1, dice=dice)
    return text
