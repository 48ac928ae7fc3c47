"""Sending a file from the browser to the notebook's server, with progress.

The kernel's socket takes 10 MiB in one message and is closed by a larger one (Tornado's
``websocket_max_message_size``); ipywidgets' FileUpload sends a whole file so, and knows no
progress. So the page itself sends it, in pieces, to the server's contents API, as JupyterLab's own
file browser does: under another name first, then renamed, which the server refuses where there is
such a file. The kernel hears of it by an input of the form that nobody sees.
"""

from __future__ import annotations

from html import escape

__all__ = ["ARRIVED", "sender"]

ARRIVED = "taskwidgets-arrived"
"""The class of the input that the page writes the file's name into once it is there."""

# Runs in the page when a file was chosen. Nothing from outside is part of it: where to send the
# file is in data attributes, its name is only ever a text or a part of a quoted URL.
_SEND = """
(async input => {
  const file = input.files[0];
  if (!file) { return; }
  const box = input.closest('.taskwidgets-sender');
  const told = input.closest('.taskwidgets-form').querySelector('.taskwidgets-arrived input');
  const bar = box.querySelector('[role=progressbar]');
  const said = box.querySelector('.taskwidgets-sent');
  const show = part => {
    const whole = Math.floor(100 * part);
    bar.hidden = false;
    bar.setAttribute('aria-valuenow', whole);
    bar.setAttribute('aria-valuetext', whole + ' %');
    bar.firstElementChild.style.width = whole + '%';
    said.textContent = 'sending ' + file.name + ': ' + whole + ' % of '
      + (file.size / 1e6).toFixed(1) + ' MB';
  };
  const config = JSON.parse(
    document.getElementById('jupyter-config-data')?.textContent || '{}');
  const key = document.cookie.match(/(?:^|; )_xsrf=([^;]*)/);
  const headers = {'Content-Type': 'application/json'};
  if (config.token) { headers.Authorization = 'token ' + config.token; }
  if (key) { headers['X-XSRFToken'] = decodeURIComponent(key[1]); }
  const there = file.name + ' exists already and was left as it is; choose it in the list, or '
    + 'rename the file that you send';
  const folder = box.dataset.folder ? box.dataset.folder + '/' : '';
  const url = path => box.dataset.base + 'api/contents/'
    + path.split('/').map(encodeURIComponent).join('/');
  const ask = async (path, method, body) => {
    const answer = await fetch(url(path), {
      method, headers, body: body && JSON.stringify(body), credentials: 'same-origin'});
    if (answer.status === 409) { throw new Error(there); }
    if (!answer.ok) {
      const why = await answer.json().catch(() => ({}));
      throw new Error('the server refused ' + file.name + ': '
        + (why.message || answer.statusText || answer.status));
    }
  };
  const text = piece => new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.split(',')[1] || '');
    reader.onerror = () => reject(reader.error);
    reader.readAsDataURL(piece);
  });
  const part = folder + file.name + '.part';
  const step = 1 << 20;
  let begun = false;
  input.disabled = true;
  try {
    const known = await fetch(url(folder + file.name) + '?content=0', {
      headers, credentials: 'same-origin'});
    if (known.ok) { throw new Error(there); }
    show(0);
    const pieces = Math.max(1, Math.ceil(file.size / step));
    for (let number = 1; number <= pieces; number++) {
      const content = await text(file.slice((number - 1) * step, number * step));
      const body = {type: 'file', format: 'base64', content};
      if (pieces > 1) { body.chunk = number === pieces ? -1 : number; }
      await ask(part, 'PUT', body);
      begun = true;
      show(number / pieces);
    }
    await ask(part, 'PATCH', {path: folder + file.name});
    begun = false;
    said.textContent = file.name + ' is there';
    told.value = JSON.stringify([box.dataset.folder, file.name, Date.now()]);
    told.dispatchEvent(new Event('input', {bubbles: true}));
    told.dispatchEvent(new Event('change', {bubbles: true}));
  } catch (error) {
    bar.hidden = true;
    said.textContent = error.message;
    if (begun) { fetch(url(part), {method: 'DELETE', headers, credentials: 'same-origin'}); }
  } finally {
    input.disabled = false;
    input.value = '';
  }
})(this)
"""


def sender(base_url: str, folder: str) -> str:
    """The input for a file that is to be sent into a folder, given from the server's root."""
    return (
        f'<div class="taskwidgets taskwidgets-sender" data-base="{escape(base_url)}" '
        f'data-folder="{escape(folder)}"><label>Send a file from this computer '
        f'<input type="file" onchange="{escape(_SEND)}"></label>'
        '<div class="taskwidgets-track" role="progressbar" aria-label="Sending the file" '
        'aria-valuemin="0" aria-valuemax="100" aria-valuenow="0" hidden>'
        '<div class="taskwidgets-fill" style="width: 0"></div></div>'
        '<div class="taskwidgets-sent taskwidgets-quiet" aria-live="polite"></div></div>'
    )
