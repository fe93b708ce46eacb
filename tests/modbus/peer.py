"""Serves register images by Modbus: pymodbus, on TCP or on a real pseudo-terminal.

Arguments: IMAGE_FILE and "tcp", "rtu" or "rtu-tcp". The image is JSON: {"unit": {"holding": {"address": word}, "input": {...}}}; an address
that is not there is an illegal data address. Prints one line, where it can be reached: a port number or the path of a
pseudo-terminal.
"""

import asyncio
import json
import os
import sys
import threading
import tty

from pymodbus import FramerType
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusSerialServer, ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

REGISTERS = 65536
TABLES = {3: "holding", 4: "input"}


def device(unit, image):
    words = {code: {int(a): w for a, w in image.get(table, {}).items()} for code, table in TABLES.items()}

    async def answer(function_code, start, address, count, current_registers, set_values):
        if set_values or function_code not in words:
            return ExcCodes.ILLEGAL_FUNCTION
        table = words[function_code]
        for at in range(address, address + count):
            if at not in table:
                return ExcCodes.ILLEGAL_ADDRESS
            current_registers[at - start] = table[at]
        return None

    memory = SimData(address=0, count=REGISTERS, values=0, datatype=DataType.REGISTERS)
    return SimDevice(id=unit, simdata=[memory], action=answer)


def bridged_terminals():
    """Two pseudo-terminals whose far ends are joined: what is written to the one comes out of the other."""
    (far_a, near_a), (far_b, near_b) = os.openpty(), os.openpty()
    for fd in (far_a, near_a, far_b, near_b):
        tty.setraw(fd)

    def carry(source, sink):
        while True:
            os.write(sink, os.read(source, 4096))

    for ends in ((far_a, far_b), (far_b, far_a)):
        threading.Thread(target=carry, args=ends, daemon=True).start()
    return os.ttyname(near_a), os.ttyname(near_b)


async def main():
    with open(sys.argv[1], encoding="ascii") as file:
        image = json.load(file)
    devices = [device(int(unit), tables) for unit, tables in image.items()]
    if sys.argv[2] == "rtu":
        ours, theirs = bridged_terminals()
        server = ModbusSerialServer(devices, framer=FramerType.RTU, port=ours, baudrate=19200, parity="N")
        await server.serve_forever(background=True)
        print(theirs, flush=True)
    else:
        framer = FramerType.RTU if sys.argv[2] == "rtu-tcp" else FramerType.SOCKET
        server = ModbusTcpServer(devices, framer=framer, address=("127.0.0.1", 0))
        await server.serve_forever(background=True)
        print(server.transport.sockets[0].getsockname()[1], flush=True)
    await asyncio.Event().wait()


asyncio.run(main())
