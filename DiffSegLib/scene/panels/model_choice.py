"""The list of models in the section that segments: shipped, trained, from files; and the card of the chosen one."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import qt
from slicer.i18n import tr as _

from DiffSegLib.errors import DiffSegError
from DiffSegLib.models.card import Card
from DiffSegLib.models.shipped import available, find, read_card
from DiffSegLib.scene import own_models
from DiffSegLib.scene.panels.card_page import card_page


class ModelChoice:
    """Serves the widgets of the form that have to do with models; what is chosen is told to `chosen`."""

    form = "Segment"

    def __init__(self, ui: Any, chosen: Callable[[str], None]) -> None:
        self.ui = ui
        self._chosen = chosen
        self._cards: dict[str, Card] = {}
        self.refresh()
        for own, card in own_models.remembered().items():
            self._add(own, card)
        self.ui.cardBrowser.visible = False

    def refresh(self) -> None:
        """List the models that can be named: the shipped ones and those that were trained and given a name."""
        for name, path in available().items():
            try:
                card = read_card(path)
            except DiffSegError:
                continue
            if name not in self._cards:
                self._add(name, card)
            self._cards[name] = card  # it may have been trained anew

    @property
    def model(self) -> str:
        """The chosen model's name or file; empty if there is none."""
        return str(self.ui.modelComboBox.currentData or "")

    @property
    def card(self) -> Card | None:
        """Of the chosen model."""
        return self._cards.get(self.model)

    def follow(self, model: str) -> None:
        """Choose a model; raises InputError, and chooses no other, where there is no such file here."""
        if model == self.model:
            return
        if model not in self._cards:
            self._add(model, read_card(find(model)))
        self.ui.modelComboBox.setCurrentIndex(self.ui.modelComboBox.findData(model))

    def useFile(self, path: str) -> None:
        """Add a file to the list, for later sessions too, and choose it; raises InputError for one that is no model."""
        path = str(Path(path))  # Qt's slashes are not those of Windows
        name = {str(file): name for name, file in available().items()}.get(path)
        if name is not None:
            self.refresh()
            self.follow(name)
            return
        card = own_models.remember(path)
        if path not in self._cards:
            self._add(path, card)
        self._cards[path] = card  # it may have been trained anew
        if self.model != path:
            self.ui.modelComboBox.setCurrentIndex(self.ui.modelComboBox.findData(path))
        self.showCard()

    def showCard(self) -> None:
        """Bring the card's page up to date, if it is looked at."""
        card = self.card if self.ui.cardButton.checked else None
        self.ui.cardBrowser.visible = card is not None
        if card is not None:
            self.ui.cardBrowser.html = card_page(card)

    def onIndex(self, index: int) -> None:
        """Another entry of the list was chosen."""
        self.showCard()
        if index >= 0:
            self._chosen(self.model)

    def onBrowse(self) -> str:
        """Ask for a model file; its path, or an empty text."""
        title, kinds = _("Choose a DiffSeg model"), _("DiffSeg model") + " (*.safetensors)"
        path = qt.QFileDialog.getOpenFileName(self.ui.browseButton, title, "", kinds)
        return str(path[0] if isinstance(path, tuple) else path)

    def _add(self, model: str, card: Card) -> None:
        self._cards[model] = card
        isNamed = model in available()
        title = model if isNamed else _("{name} (own file)").format(name=card.name)
        self.ui.modelComboBox.addItem(title, model)
        text = card.description if isNamed else model
        self.ui.modelComboBox.setItemData(self.ui.modelComboBox.count - 1, text, qt.Qt.ToolTipRole)
