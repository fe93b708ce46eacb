"""An Eastron SDM630 that changes all its registers ten times a second, and writes down what it had when.

Arguments: ADDRESS PORT TRUTH_FILE FIRST_STEP FRAMING, the last "tcp" or "rtu" (over TCP). Prints one line, "listening", when it does. The truth file gets one JSON
line per step, written before the step can be read by anybody: {"unix_ns", "step", "values": {field: number}}.
The numbers are exactly the 32-bit floats that the registers hold.
"""

import asyncio
import json
import struct
import sys
import time

from pymodbus import FramerType
from pymodbus.constants import ExcCodes
from pymodbus.server import ModbusTcpServer
from pymodbus.simulator import DataType, SimData, SimDevice

STEP_S = 0.1
UNIT_ID = 1
READ_INPUT_REGISTERS = 4
# Eastron SDM630 Modbus protocol V1.7: at most 40 parameters of two registers in one request.
COUNT_MAX = 80

# Registers and units are the vendor's (Eastron SDM630 Modbus protocol V1.7), names those of the agent's wire.
# (register, name, centre, span): the value wanders over centre +- span / 2. Far enough from its neighbours in
# space and time that a swapped register, a swapped word or an old value cannot pass for the right one.
WANDERING = [
    (0, "voltage_l1", 231.0, 6.0), (2, "voltage_l2", 238.0, 6.0), (4, "voltage_l3", 224.0, 6.0),
    (6, "current_l1", 40.0, 30.0), (8, "current_l2", 75.0, 30.0), (10, "current_l3", 110.0, 30.0),
    (12, "power_flow_l1", -9000.0, 8000.0), (14, "power_flow_l2", 500.0, 9000.0),
    (16, "power_flow_l3", 12000.0, 7000.0),
    (18, "power_apparent_l1", 9500.0, 1500.0), (20, "power_apparent_l2", 15500.0, 1500.0),
    (22, "power_apparent_l3", 21500.0, 1500.0),
    (24, "power_reactive_l1", -3000.0, 1000.0), (26, "power_reactive_l2", 2000.0, 1000.0),
    (28, "power_reactive_l3", 4000.0, 1000.0),
    (30, "power_factor_l1", -0.85, 0.1), (32, "power_factor_l2", 0.65, 0.1), (34, "power_factor_l3", 0.9, 0.1),
    (42, "voltage", 245.0, 4.0), (46, "current", 150.0, 20.0), (48, "current_sum", 190.0, 20.0),
    (52, "power_flow", 1500.0, 44000.0), (56, "power_apparent", 42000.0, 8000.0),
    (60, "power_reactive", -8000.0, 5000.0), (62, "power_factor", 0.3, 0.2), (66, "phase_angle", 20.0, 15.0),
    (70, "frequency", 50.0, 0.3), (84, "power_demand", 30000.0, 5000.0), (86, "power_demand_peak", 39000.0, 3000.0),
    (200, "voltage_l1_l2", 400.0, 8.0), (202, "voltage_l2_l3", 410.0, 8.0), (204, "voltage_l3_l1", 390.0, 8.0),
    (224, "current_n", 8.0, 6.0),
    (234, "thd_voltage_l1", 2.0, 0.8), (236, "thd_voltage_l2", 3.0, 0.8), (238, "thd_voltage_l3", 4.0, 0.8),
    (240, "thd_current_l1", 6.0, 1.6), (242, "thd_current_l2", 8.0, 1.6), (244, "thd_current_l3", 10.0, 1.6),
]
# (register, name, first, per step): counters only rise. A step is well above what a 32-bit float resolves there.
RISING = [
    (72, "energy_import", 1000.0, 0.01), (74, "energy_export", 2000.0, 0.01),
    (76, "energy_reactive_import", 300.0, 0.01), (78, "energy_reactive_export", 500.0, 0.01),
    (80, "energy_apparent", 3500.0, 0.02), (342, "energy_total", 3000.0, 0.02),
    (344, "energy_reactive_total", 800.0, 0.02),
    (346, "energy_import_l1", 320.0, 0.01), (348, "energy_import_l2", 340.0, 0.01),
    (350, "energy_import_l3", 360.0, 0.01), (352, "energy_export_l1", 640.0, 0.01),
    (354, "energy_export_l2", 660.0, 0.01), (356, "energy_export_l3", 680.0, 0.01),
    (358, "energy_total_l1", 960.0, 0.02), (360, "energy_total_l2", 1010.0, 0.02),
    (362, "energy_total_l3", 1060.0, 0.02),
]
REGISTERS = 364
# The golden ratio's fraction: its multiples never repeat modulo 1, and two in a row are never close.
GOLDEN = 0.6180339887498949


def number(step, register, centre, span):
    return centre + span * ((step * GOLDEN + register * 0.0137) % 1.0 - 0.5)


def image(step):
    """All registers of a step, and what they mean."""
    registers = [0] * REGISTERS
    values = {}
    points = [(r, name, number(step, r, centre, span)) for r, name, centre, span in WANDERING]
    points += [(r, name, first + per_step * step) for r, name, first, per_step in RISING]
    for register, name, value in points:
        packed = struct.pack(">f", value)
        registers[register:register + 2] = struct.unpack(">HH", packed)
        values[name] = struct.unpack(">f", packed)[0]
    return registers, values


class Meter:
    def __init__(self, truth, first_step):
        self.truth = truth
        self.step = first_step
        self.registers = []
        self.turn()

    def turn(self):
        registers, values = image(self.step)
        line = {"unix_ns": time.time_ns(), "step": self.step, "values": values}
        self.truth.write(json.dumps(line, separators=(",", ":")) + "\n")
        self.truth.flush()
        self.registers = registers
        self.step += 1

    async def run(self):
        due = time.monotonic()
        while True:
            # A late step does not make the next ones hurry.
            due = max(due + STEP_S, time.monotonic())
            await asyncio.sleep(due - time.monotonic())
            self.turn()

    async def answer(self, function_code, _start, _address, count, current_registers, set_values):
        if function_code != READ_INPUT_REGISTERS or set_values:
            return ExcCodes.ILLEGAL_FUNCTION
        if count % 2 or count > COUNT_MAX:
            return ExcCodes.ILLEGAL_VALUE
        current_registers[:REGISTERS] = self.registers
        return None


async def main():
    address, port, truth_path, first_step = sys.argv[1], int(sys.argv[2]), sys.argv[3], int(sys.argv[4])
    framer = {"tcp": FramerType.SOCKET, "rtu": FramerType.RTU}[sys.argv[5]]
    with open(truth_path, "a", encoding="ascii") as truth:
        meter = Meter(truth, first_step)
        memory = SimData(address=0, count=REGISTERS, values=0, datatype=DataType.REGISTERS)
        device = SimDevice(id=UNIT_ID, simdata=[memory], action=meter.answer)
        server = ModbusTcpServer(device, framer=framer, address=(address, port))
        await server.serve_forever(background=True)
        print("listening", flush=True)
        await meter.run()


asyncio.run(main())
