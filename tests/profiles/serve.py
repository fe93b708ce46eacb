"""A Modbus server, pymodbus, with the register images of this folder: one device for each.

Arguments: SECTION FRAMING UNIT=NAME …, the framing "tcp" (on a free port of loopback) or "rtu" (on a pair of
pseudo-terminals). UNIT=NAME plays the section of NAME.txt under this unit id. Prints one line when it listens: the port
or the terminal.

Around its image a device has 0x55AA in all registers, so that a wrong register is a wrong value. Devices that refuse
to be read beyond their registers do so here, too.
"""

import asyncio
import os
import re
import sys
import threading
import tty
from pathlib import Path

from pymodbus import FramerType
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

TABLES = {3: "holding", 4: "input"}
# The most registers in one request, where a device has a limit of its own.
REQUEST_MAX = {"keba-p30": 2}
LINE = re.compile(r"(holding|input)(?:@(\d+))? (\d+): ((?:[0-9A-F]{4} ?)+)-> ")


def images(name, section):
    """{unit or None: {(table, register): word}} of a section."""
    found, current = {}, None
    for line in (Path(__file__).parent / f"{name}.txt").read_text(encoding="utf-8").splitlines():
        if line.startswith("["):
            current = line.strip("[]")
        elif current == section and line and not line.startswith("#"):
            table, unit, register, words = LINE.match(line).groups()
            registers = found.setdefault(int(unit) if unit else None, {})
            for offset, word in enumerate(words.split()):
                registers[table, int(register) + offset] = int(word, 16)
    return found


def device(unit, name, registers):
    async def answer(function_code, start, address, count, current_registers, set_values):
        table = TABLES.get(function_code)
        if table is None or set_values:
            return ExcCodes.ILLEGAL_FUNCTION
        asked = [(table, register) for register in range(address, address + count)]
        if count > REQUEST_MAX.get(name, 125):
            return ExcCodes.ILLEGAL_VALUE
        # As the strictest of them: a hole in the list is refused, and the agent has to learn it.
        if any(key not in registers for key in asked):
            return ExcCodes.ILLEGAL_ADDRESS
        current_registers[address - start:address - start + count] = [registers[key] for key in asked]
        return None

    memory = SimData(address=0, count=65536, values=0, datatype=DataType.REGISTERS)
    return SimDevice(id=unit, simdata=[memory], action=answer)


def wire():
    """Two pseudo-terminals, joined. Returns their names."""
    ends = [os.openpty(), os.openpty()]
    for _, terminal in ends:
        tty.setraw(terminal)

    def carry(source, sink):
        while data := os.read(source, 4096):
            os.write(sink, data)

    (one, _), (other, _) = ends
    for pair in [(one, other), (other, one)]:
        threading.Thread(target=carry, args=pair, daemon=True).start()
    # The terminals stay open here, so that a pair outlives who comes and goes at its ends.
    return [os.ttyname(terminal) for _, terminal in ends]


async def main():
    section, framing, *played = sys.argv[1:]
    devices = []
    for unit, name in (word.split("=", 1) for word in played):
        for own_unit, registers in images(name, section).items():
            devices.append(device(own_unit or int(unit), name, registers))
    if framing == "tcp":
        server = ModbusTcpServer(devices, framer=FramerType.SOCKET, address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        place = server.transport.sockets[0].getsockname()[1]
    else:
        ours, place = wire()
        server = ModbusSerialServer(devices, framer=FramerType.RTU, port=ours, baudrate=115200, timeout=1)
        await server.serve_forever(background=True)
    print(place, flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
