//! Which parts of a device are silent while others answer, in words. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use super::Target;
use super::schedule::Standing;
use crate::spec::RegisterBlock;

/// Runs of registers that are named; a longer list tells nothing more.
const RUNS_NAMED_MAX: usize = 8;

/// How much of a device answers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Parts {
    /// All of it.
    All,
    /// Nothing of it.
    None,
    /// Some of it.
    Some {
        /// So many of its blocks.
        answering: u16,
        /// Of so many.
        blocks: u16,
        /// What does not.
        silent: String,
        /// The same, with what to do.
        trouble: String,
    },
}

impl Parts {
    pub(super) fn of(standing: &Standing, target: &Target) -> Self {
        let Standing { answering, silent, silent_units } = standing;
        if silent.is_empty() {
            return Self::All;
        }
        if *answering == 0 {
            return Self::None;
        }
        let count = |count: usize| u16::try_from(count).unwrap_or(u16::MAX);
        let silent_text = runs(silent.iter().copied(), target);
        let mut troubles = Vec::new();
        for unit in silent_units {
            let id = target.unit_id(*unit);
            let of_it = runs(silent.iter().filter(|block| block.unit == *unit).copied(), target);
            troubles.push(format!(
                "unit {id} gives no answer ({of_it}), while another unit of the device does; check in the device's settings that \
                 it has unit {id} and that it is switched on; if it has none, take these registers out of a profile of your own"
            ));
        }
        let others: Vec<_> = silent.iter().filter(|block| !silent_units.contains(&block.unit)).copied().collect();
        if !others.is_empty() {
            troubles.push(format!(
                "it gives no answer for {}, while it does for others; this model or firmware may not have them (see v2g-edge \
                 probe modbus): then take them out of a profile of your own",
                runs(others.into_iter(), target)
            ));
        }
        Self::Some {
            answering: count(*answering),
            blocks: count(answering + silent.len()),
            silent: silent_text,
            trouble: troubles.join("; "),
        }
    }
}

/// "unit 200 holding 100 to 166, 1100; unit 1 input 52 to 53". Registers are those of the wire.
fn runs(blocks: impl Iterator<Item = RegisterBlock>, target: &Target) -> String {
    let mut by_table: BTreeMap<(u8, &str), Vec<(u16, u16)>> = BTreeMap::new();
    let mut left_out = 0_usize;
    for (at, block) in blocks.enumerate() {
        if at >= RUNS_NAMED_MAX {
            left_out += 1;
            continue;
        }
        let table = block.table.as_str();
        let last = block.start.saturating_add(block.count.saturating_sub(1));
        by_table.entry((target.unit_of(block).get(), table)).or_default().push((block.start, last));
    }
    let mut text = String::new();
    for ((unit, table), mut runs) in by_table {
        runs.sort_unstable();
        let separator = if text.is_empty() { "" } else { "; " };
        // Into a string: cannot fail.
        let what = if matches!(table, "coil" | "discrete") { "bits" } else { "registers" };
        let _ = write!(text, "{separator}unit {unit} {table} {what} ");
        for (at, (first, last)) in runs.into_iter().enumerate() {
            let separator = if at == 0 { "" } else { ", " };
            let _ = if first == last {
                write!(text, "{separator}{first}")
            } else {
                write!(text, "{separator}{first} to {last}")
            };
        }
    }
    if left_out > 0 {
        let _ = write!(text, " and {left_out} more");
    }
    text
}
