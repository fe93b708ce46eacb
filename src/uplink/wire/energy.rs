//! What is known of energy, as fields.

use super::line::Line;
use crate::measure::Energy;

/// What may be added up over any windows.
pub(super) fn energy(line: &mut Line, Energy { import, export, known }: Energy) {
    for (key, delta) in [("energy_import_delta", import), ("energy_export_delta", export)] {
        if let Some(delta) = delta {
            line.float(key, "", delta.kwh());
        }
    }
    if let Some(known) = known {
        line.float("known_s", "", known.as_secs_f64());
    }
}
