"""A worker whose jobs only sleep and that heeds no cancel."""

import json
import sys

PROGRAM = """
import json, os, queue, sys, threading, time
os.setsid()
jobs = queue.Queue()
def listen():
    for line in sys.stdin:
        request = json.loads(line)
        if request["do"] != "cancel":
            jobs.put(request)
    os._exit(0)
threading.Thread(target=listen, daemon=True).start()
print(json.dumps({"v": 1, "event": "log", "text": "", "state": "ready", "pid": os.getpid()}), flush=True)
while True:
    request = jobs.get()
    time.sleep(request["seconds"])
    print(json.dumps({"v": 1, "event": "result", "job": request["id"]}), flush=True)
"""
COMMAND = [sys.executable, "-u", "-c", PROGRAM]


class Sleep:
    """A job that takes so long, whatever it is told."""

    def __init__(self, number, seconds):
        self.id, self.seconds = number, seconds

    def to_line(self):
        return json.dumps({"do": "sleep", "id": self.id, "seconds": self.seconds})
