//! `v2g-edge probe sunspec`: the chain of models of a SunSpec device, and every point of them.

use std::fmt::Write as _;

use anyhow::{Result, bail};
use hal::{BusError, UnitId};
use serde_json::{Value as Json, json};

use super::link::{Bus, Link, Progress, block_on, is_hopeless, units};
use crate::cli::Exit;
use crate::cli::show::{Paint, complain, print};
use crate::measure::Raw;
use crate::source::modbus::sunspec::{BASES, Decoded, ModelAt, Survey, SurveyStep, decode, label, supported};
use crate::spec::{RegisterBlock, RegisterTable};

/// The most that one request reads.
const REQUEST_REGISTERS_MAX: u16 = 125;
/// Below, a refusal is not for the length.
const REQUEST_REGISTERS_MIN: u16 = 8;
/// Requests of a survey: three bases in two tables, 64 models and an end.
const STEPS_MAX: usize = 80;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    link: Link,
    /// The unit to ask
    #[arg(long, default_value = "1")]
    unit: String,
    /// Only the chain, without the points
    #[arg(long)]
    chain: bool,
    /// One JSON object
    #[arg(long)]
    json: bool,
}

/// A model with what it says.
struct Shown {
    model: ModelAt,
    points: Vec<Decoded>,
    /// Why its registers could not be read.
    trouble: Option<String>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit> {
    let Ok([unit]) =
        units(&arguments.unit).map(|units| <[UnitId; 1]>::try_from(units).unwrap_or_else(|units| [units[0]]))
    else {
        complain(format_args!("\"{}\" is no unit; write --unit 1", arguments.unit));
        return Ok(Exit::Usage);
    };
    block_on(async {
        let mut bus = arguments.link.open()?;
        let progress = Progress::new();
        let (chain, table) = survey(&mut bus, unit, &progress).await?;
        let mut shown = Vec::new();
        for model in &chain {
            progress.step(&format!("reading model {} at {}", model.id, model.address));
            shown.push(if arguments.chain || !supported(model.id) {
                Shown { model: *model, points: Vec::new(), trouble: None }
            } else {
                read(&mut bus, unit, table, *model).await?
            });
        }
        progress.end();
        print(if arguments.json { as_json(unit, &shown) } else { text(unit, &shown, arguments) });
        Ok(if shown.is_empty() { Exit::Wrong } else { Exit::Fine })
    })
}

/// The device's chain of models, with the table that it is in; empty if it has none.
async fn survey(bus: &mut Bus, unit: UnitId, progress: &Progress) -> Result<(Vec<ModelAt>, RegisterTable)> {
    let mut survey = Survey::new(&[]);
    let mut silences = 0;
    for _ in 0..STEPS_MAX {
        let [blocks, _] = survey.blocks();
        let Some(block) = blocks.first().copied().filter(|_| !survey.is_known()) else { break };
        progress.step(&format!("unit {unit}: {} models, looking at {}", survey.chain().len(), block.start));
        let told = match bus.read(unit, block).await {
            Ok(words) => survey.answered(block, &words),
            Err(error @ BusError::Exception { code: 10 | 11, .. }) => bail!("{error}"),
            Err(BusError::Exception { code, .. }) => survey.refused(block, code),
            Err(error) if is_hopeless(&error) => bail!("{error}"),
            Err(error) => {
                silences += 1;
                // A device may be silent where nothing is.
                if silences == 3 {
                    bail!("{error}");
                }
                continue;
            }
        };
        match told {
            SurveyStep::NoSunSpec => return Ok((Vec::new(), survey.table())),
            SurveyStep::Part if survey.chain().is_empty() => return Ok((Vec::new(), survey.table())),
            _ => {}
        }
    }
    Ok((survey.chain().to_vec(), survey.table()))
}

/// A whole model, in as many requests as the device wants.
async fn read(bus: &mut Bus, unit: UnitId, table: RegisterTable, model: ModelAt) -> Result<Shown> {
    let length = model.length.saturating_add(2);
    let mut words: Vec<u16> = Vec::new();
    let (mut longest, mut trouble, mut silences) = (REQUEST_REGISTERS_MAX, None, 0);
    while words.len() < usize::from(length) {
        let from = u16::try_from(words.len()).unwrap_or(length);
        let Some(start) = model.address.checked_add(from) else { break };
        let block = RegisterBlock { unit: None, table, start, count: longest.min(length - from) };
        match bus.read(unit, block).await {
            Ok(more) => words.extend(more),
            Err(BusError::Exception { .. }) if block.count > REQUEST_REGISTERS_MIN => longest = block.count / 2,
            Err(error) if is_hopeless(&error) => bail!("{error}"),
            Err(BusError::Timeout { .. } | BusError::Noise { .. } | BusError::Short { .. }) if silences < 2 => {
                silences += 1;
            }
            Err(error) => {
                trouble = Some(error.to_string());
                break;
            }
        }
    }
    Ok(Shown { model, points: decode(model.id, &words), trouble })
}

fn value_json(value: Option<&Raw>) -> Json {
    match value {
        None => Json::Null,
        Some(Raw::Integer(integer)) => {
            i64::try_from(*integer).map_or_else(|_| json!(integer.to_string()), |small| json!(small))
        }
        Some(Raw::Float(float)) => json!(float),
        Some(Raw::Text(text)) => json!(text.as_ref()),
    }
}

fn as_json(unit: UnitId, shown: &[Shown]) -> String {
    let point = |point: &Decoded| {
        json!({
            "name": point.name, "offset": point.offset, "value": value_json(point.value.as_ref()), "unit": point.unit,
            "words": point.words.iter().map(|word| format!("{word:04x}")).collect::<Vec<_>>(),
        })
    };
    let model = |shown: &Shown| {
        let ModelAt { id, address, length } = shown.model;
        json!({
            "id": id, "label": label(id), "address": address, "length": length, "supported": supported(id),
            "points": shown.points.iter().map(point).collect::<Vec<_>>(), "trouble": shown.trouble,
        })
    };
    let base = shown.first().map(|first| first.model.address.saturating_sub(2));
    let models: Vec<Json> = shown.iter().map(model).collect();
    json!({ "unit": unit.get(), "base": base, "models": models }).to_string() + "\n"
}

fn text(unit: UnitId, shown: &[Shown], arguments: &Arguments) -> String {
    let paint = Paint::for_stdout();
    let Some(first) = shown.first() else {
        let bases = BASES.map(|base| base.to_string()).join(", ");
        return format!(
            "unit {unit} has no SunSpec mark at register {bases}; is SunSpec switched on in its settings, and its unit right?\n"
        );
    };
    let mut out = format!("unit {unit}: SunSpec from register {}\n", first.model.address.saturating_sub(2));
    for Shown { model, points, trouble } in shown {
        let name = label(model.id).unwrap_or("not known to this version; skipped");
        let head = paint.bold(&format!("model {:<5}", model.id));
        let _ = writeln!(out, "{head} at {:<5} length {:<4} {name}", model.address, model.length);
        for point in points {
            let value = match &point.value {
                None => paint.dim("not implemented"),
                Some(Raw::Integer(integer)) => integer.to_string(),
                Some(Raw::Float(float)) => float.to_string(),
                Some(Raw::Text(text)) => format!("\"{text}\""),
            };
            let words: Vec<String> = point.words.iter().take(8).map(|word| format!("{word:04x}")).collect();
            let _ = writeln!(out, "  {:<24} {value} {:<8} {}", point.name, point.unit, paint.dim(&words.join(" ")));
        }
        if let Some(trouble) = trouble {
            let _ = writeln!(out, "  {}", paint.bad(trouble));
        }
    }
    let (bus, address) = arguments.link.config_lines();
    let address = address.unwrap_or_default();
    let on = arguments.link.bus_name();
    let device = format!(
        "[device.sunspec-{unit}]\nkind = \"meter\"\nbus = \"{on}\"\n{address}unit = {unit}\nprofile = \"sunspec\""
    );
    let _ = writeln!(
        out,
        "{}\n{bus}\n{device}",
        paint.dim("# gateway.toml; for a charger: kind = \"evse\" and profile = \"sunspec-evse\"")
    );
    out
}
