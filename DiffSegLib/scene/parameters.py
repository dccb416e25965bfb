"""The one wrapper of the module's parameter node, and what a saved scene holds that this version does not know."""

import typing
from typing import Annotated, Any

VALUES = (int, float, str, bool)  # kinds of fields; all others are nodes
_wrappers: list[Any] = []
_resets: list[tuple[Any, str, str]] = []  # node, name, the text that was there


def wrapperOf(node: Any, kind: Any, fields: tuple[type, ...]) -> Any:
    """The wrapper of class `kind`, whose annotated fields the classes `fields` have, of a parameter node.

    There is one, and it stays: every wrapper observes its node, so that many would make each change slow, and one that
    the garbage collector takes together with Python's side of the node has ended the process at the node's next change.

    What a wrapper would refuse is taken from the node first, so that the default comes back: a scene may be of another
    version, with other choices and ranges, or edited by hand, and the window could not connect to it. Of that
    `takeResets` tells.
    """
    hints = {name: hint for each in fields for name, hint in typing.get_type_hints(each, include_extras=True).items()}
    ruled = {name: typing.get_args(hint)[0] for name, hint in hints.items() if typing.get_origin(hint) is Annotated}
    values = {name: hint for name, hint in (hints | ruled).items() if hint in VALUES}
    for name, hint in values.items():
        if node.HasParameter(name) and not _takes(hint, node.GetParameter(name)):
            _reset(node, name)
    wrapper = next((each for each in _wrappers if type(each) is kind and each.parameterNode is node), None)
    if wrapper is None:
        wrapper = kind(node)
        _wrappers.append(wrapper)
    for name in (name for name in ruled if node.HasParameter(name)):
        try:
            setattr(wrapper, name, getattr(wrapper, name))
        except (TypeError, ValueError):
            _reset(node, name)
    # a wrapper remembers what it has read; that a node which is referred to has been loaded meanwhile nobody told it
    if any(getattr(wrapper, name) is not _reference(node, name) for name in hints if name not in values):
        node.Modified()
    return wrapper


def takeResets(node: Any) -> dict[str, str]:
    """Name -> text of every value that was taken from a parameter node since this was last asked."""
    found = {name: text for each, name, text in _resets if each is node}
    _resets[:] = [reset for reset in _resets if reset[0] is not node]
    return found


def _reset(node: Any, name: str) -> None:
    _resets[:] = [reset for reset in _resets if reset[0].GetScene() is not None]  # nobody will ask about others
    _resets.append((node, name, node.GetParameter(name)))
    node.UnsetParameter(name)


def _reference(node: Any, name: str) -> Any:
    """The node that a field refers to; Slicer puts that of `X | None` under a role with its place in the union."""
    found = node.GetNodeReference(name)
    return node.GetNodeReference(f"{name}.0") if found is None else found


def _takes(kind: type, text: str) -> bool:
    try:
        return kind(text) is not None
    except ValueError:
        return False
