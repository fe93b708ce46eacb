//! Error frames of the kernel (`linux/can/error.h`): what the controller says of the bus and of itself.

use super::BusState;

/// What one error frame says; it may say several things.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// The controller is in this state.
    State(BusState),
    /// The controller was restarted.
    Restarted,
    /// A frame was lost in the controller: its receive buffer was full.
    Overrun,
    /// An error on the bus: a violated bit, a missing acknowledgement, a lost arbitration, the transceiver.
    Bus,
}

/// `CAN_ERR_TX_TIMEOUT`: no controller said it, its driver gave up. Nothing that we do.
const CRTL: u32 = 0x004;
const LOST_ARBITRATION: u32 = 0x002;
const PROTOCOL: u32 = 0x008;
const TRANSCEIVER: u32 = 0x010;
const NO_ACK: u32 = 0x020;
const BUS_OFF: u32 = 0x040;
const BUS_ERROR: u32 = 0x080;
const RESTARTED: u32 = 0x100;

/// `data[1]` of a frame with [`CRTL`].
const RX_OVERFLOW: u8 = 0x01;
const WARNING: u8 = 0x04 | 0x08;
const PASSIVE: u8 = 0x10 | 0x20;
const ACTIVE: u8 = 0x40;

/// Reads an error frame: the id without its flag, and the 8 bytes of payload. The state comes last.
pub fn faults(class: u32, data: &[u8]) -> impl Iterator<Item = Fault> {
    let says = |bit: u32| class & bit != 0;
    let controller = if says(CRTL) { data.get(1).copied().unwrap_or(0) } else { 0 };
    let on_the_bus = says(LOST_ARBITRATION | PROTOCOL | TRANSCEIVER | NO_ACK | BUS_ERROR);
    let state = if says(BUS_OFF) {
        Some(BusState::BusOff)
    } else if controller & PASSIVE != 0 {
        Some(BusState::Passive)
    } else if controller & WARNING != 0 {
        Some(BusState::Warning)
    } else if controller & ACTIVE != 0 || says(RESTARTED) {
        Some(BusState::Active)
    } else {
        None
    };
    [
        (controller & RX_OVERFLOW != 0).then_some(Fault::Overrun),
        on_the_bus.then_some(Fault::Bus),
        says(RESTARTED).then_some(Fault::Restarted),
        state.map(Fault::State),
    ]
    .into_iter()
    .flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(class: u32, controller: u8) -> Vec<Fault> {
        faults(class, &[0, controller, 0, 0, 0, 0, 0, 0]).collect()
    }

    #[test]
    fn every_state_of_the_controller_has_its_name() {
        for (class, controller, state) in [
            (CRTL, 0x40, BusState::Active),
            (CRTL, 0x04, BusState::Warning),
            (CRTL, 0x08, BusState::Warning),
            (CRTL, 0x10, BusState::Passive),
            (CRTL, 0x2c, BusState::Passive),
            (BUS_OFF, 0, BusState::BusOff),
            // With the counters (`CAN_ERR_CNT`), as newer kernels send it.
            (BUS_OFF | 0x200, 0, BusState::BusOff),
        ] {
            assert_eq!(of(class, controller), [Fault::State(state)], "{class:#x} {controller:#x}");
        }
        assert_eq!(of(RESTARTED, 0), [Fault::Restarted, Fault::State(BusState::Active)]);
    }

    #[test]
    fn losses_and_errors_are_told_apart() {
        assert_eq!(of(CRTL, 0x01), [Fault::Overrun]);
        assert_eq!(of(PROTOCOL | BUS_ERROR, 0), [Fault::Bus]);
        assert_eq!(of(NO_ACK, 0x40), [Fault::Bus], "data[1] counts only with CRTL");
        assert_eq!(of(CRTL | PROTOCOL, 0x11), [Fault::Overrun, Fault::Bus, Fault::State(BusState::Passive)]);
    }

    #[test]
    fn an_error_frame_without_payload_says_what_it_can() {
        assert_eq!(faults(CRTL | BUS_OFF, &[]).collect::<Vec<_>>(), [Fault::State(BusState::BusOff)]);
        assert_eq!(faults(0, &[]).count(), 0);
    }
}
