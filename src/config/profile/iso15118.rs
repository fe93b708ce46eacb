//! The `[iso15118]` part of a profile: which values of a charging session are points. What they mean is fixed
//! ([`SessionValue`]).

use std::collections::BTreeSet;

use crate::config::document::Value;
use crate::config::section::{Form, Section, Taken, Wrong, nearest, text};
use crate::spec::{FieldName, Origin, PointSpec, Scaling, SessionPoint, SessionValue};

pub(in crate::config) const ISO15118: Form = Form { table: "iso15118", keys: &[("values", "[\"all\"]")] };

/// Stands for every value.
const ALL: &str = "all";

/// `[iso15118]`.
#[derive(Debug)]
pub(super) struct SessionDraft {
    /// In the order of their fields; `None` if the file does not say, or not rightly.
    values: Option<Vec<SessionValue>>,
}

impl SessionDraft {
    pub(super) fn read(section: &Section<'_>) -> Self {
        if !section.has("values") {
            section.missing("values");
        }
        let named = section.list("values", SessionValue::COUNT, value);
        let values = named.map(|named| {
            let named: BTreeSet<SessionValue> = named.into_iter().flatten().collect();
            named.into_iter().collect()
        });
        Self { values }
    }

    pub(super) fn over(self, base: Self) -> Self {
        Self { values: self.values.or(base.values) }
    }

    /// The points, in the order of the values.
    pub(super) fn points(&self) -> Option<Vec<PointSpec>> {
        self.values.as_ref()?.iter().map(|value| point(*value)).collect()
    }
}

/// `None` never happens: a test of the values sees to that their names are field names.
fn point(value: SessionValue) -> Option<PointSpec> {
    Some(PointSpec {
        field: FieldName::try_from(value.name()).ok()?,
        unit: value.unit(),
        value_type: value.value_type(),
        aggregation: value.fold(),
        valid: value.valid().map(|(low, high)| low..=high),
        frozen_after: None,
        scaling: Scaling::default(),
        origin: Origin::Session(SessionPoint { value }),
    })
}

fn value(value: &Value) -> Taken<Vec<SessionValue>> {
    let name = text(value)?;
    if name == ALL {
        return Ok(SessionValue::ALL.to_vec());
    }
    SessionValue::from_name(&name).map(|value| vec![value]).ok_or_else(|| {
        let problem = format!("= \"{name}\" is no value of a charging session");
        let names = SessionValue::ALL.map(SessionValue::name);
        match nearest(&name, names.into_iter()) {
            Some(near) => Wrong::instead(problem, format!("\"{near}\""), String::new()),
            None => Wrong::noted(problem, "\"all\", or names such as \"soc\" and \"power_flow\""),
        }
    })
}
