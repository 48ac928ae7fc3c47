"""Forms for people who would rather click: what they hold and do, without any front end.

A form ends in the very call that one could have written, and shows it: ``form.code()``.
"""

from __future__ import annotations

from taskwidgets.forms.door import or_form
from taskwidgets.forms.download import DownloadForm
from taskwidgets.forms.upload import UploadForm

__all__ = ["DownloadForm", "UploadForm", "or_form"]
