#!/usr/bin/env python3
"""Decodes a candump -L log with cantools: one JSON line for each frame, what v2g-edge must say, too.

usage: oracle.py FILE.dbc FILE.log

{"message": NAME, "signals": {NAME: {"value": NUMBER, "text": WORDS or null}}}; {"message": null} for an id that is in no
message; {"error": WHY} for a frame that cantools refuses as a whole (a multiplexor with a value of no signal).
"""

import json
import sys

import cantools


def main():
    database = cantools.database.load_file(sys.argv[1], strict=True, prune_choices=False)
    by_id = {(m.frame_id, m.is_extended_frame): m for m in database.messages}
    with open(sys.argv[2], encoding="ascii") as log:
        for line in log:
            frame = line.split()[2]
            identifier, _, data = frame.partition("#")
            data = bytes.fromhex(data[2:] if data.startswith("#") else data)
            message = by_id.get((int(identifier, 16), len(identifier) == 8))
            print(json.dumps(told(message, data)))


def told(message, data):
    if message is None:
        return {"message": None}
    try:
        values = message.decode(data, decode_choices=False, scaling=True)
        words = message.decode(data, decode_choices=True, scaling=True)
    except cantools.database.errors.DecodeError as error:
        return {"error": str(error)}
    signals = {}
    for name, value in values.items():
        word = words[name]
        text = str(word) if isinstance(word, cantools.database.namedsignalvalue.NamedSignalValue) else None
        # JSON knows no infinity and no NaN.
        number = value if value == value and abs(value) != float("inf") else None
        signals[name] = {"value": number, "text": text}
    return {"message": message.name, "signals": signals}


if __name__ == "__main__":
    main()
