"""A vehicle or a station of ISO 15118 (EcoG's Josev) that writes down what it hands to its encoder.

    josev.py evcc|secc INTERFACE TRUTH.jsonl [CONFIG.json]

Each line of TRUTH: {"t_ns": when it was encoded, "msg": the message}. Environment as Josev has it.
"""

import asyncio
import enum
import importlib
import json
import os
import sys
import time

role, interface, truth = sys.argv[1:4]
os.environ["NETWORK_INTERFACE"] = interface

# What the standard gives a vehicle for an answer is too short for a machine that has other things to do: 0.25 s in the loop.
PATIENCE = 20
for name in ("iso15118_2.timeouts", "iso15118_20.timeouts", "din_spec.timeouts", "timeouts"):
    module = importlib.import_module(f"iso15118.shared.messages.{name}")
    timeouts = module.Timeouts.__members__.items()
    # A request for a station is sent again after its time.
    members = {member: float(value) * (1 if member == "SDP_REQ" else PATIENCE) for member, value in timeouts}
    module.Timeouts = enum.Enum("Timeouts", members, type=float, module=module.__name__)

from iso15118.shared.exificient_exi_codec import ExificientEXICodec  # noqa: E402


class Witness(ExificientEXICodec):
    def __init__(self):
        super().__init__()
        self.file = open(truth, "w", buffering=1)

    def encode(self, message, namespace):
        encoded = super().encode(message, namespace)
        self.file.write('{"t_ns":%d,"msg":%s}\n' % (time.time_ns(), json.dumps(json.loads(message))))
        return encoded


async def evcc():
    from iso15118.evcc import Config, EVCCHandler
    from iso15118.evcc.controller.simulator import SimEVController
    from iso15118.evcc.evcc_config import load_from_file

    config = Config()
    config.load_envs()
    settings = await load_from_file(sys.argv[4])
    controller = SimEVController(settings)
    await EVCCHandler(evcc_config=settings, iface=config.iface, exi_codec=Witness(), ev_controller=controller).start()


async def secc():
    from iso15118.secc import SECCHandler
    from iso15118.secc.controller.interface import ServiceStatus
    from iso15118.secc.controller.simulator import SimEVSEController
    from iso15118.secc.secc_settings import Config

    config = Config()
    config.load_envs()
    controller = SimEVSEController()
    await controller.set_status(ServiceStatus.STARTING)
    await SECCHandler(exi_codec=Witness(), evse_controller=controller, config=config).start(config.iface)


asyncio.run({"evcc": evcc, "secc": secc}[role]())
