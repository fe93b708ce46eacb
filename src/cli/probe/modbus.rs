//! `v2g-edge probe modbus`: finds units, guesses what they are, shows every point with its raw words, and says what to write.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Result, bail};
use hal::UnitId;
use serde_json::{Value as Json, json};

use super::guess::{Fit, Image, Plausibility, Shown, Variant, fit, read};
use super::link::{Bus, Link, Progress, block_on, is_heard, is_hopeless, units};
use crate::cli::Exit;
use crate::cli::show::{Paint, Stdout, complain, note};
use crate::config::{self, ProfileSource, ProfileView, profile_views};
use crate::measure::{Outcome, Value};
use crate::source::modbus::sunspec::{BASES, MARK};
use crate::spec::{DeviceKind, PointSpec, RegisterBlock, RegisterTable};

/// On a server most have one unit, and answer to 1 or 255.
const UNITS_TCP: &str = "1-16,255,0";
const UNITS_SERIAL: &str = "1-247";
/// Profiles that fit so nearly as well as the best are named.
const CLOSE: f64 = 0.7;
/// Of a unit that is deaf after its answers, the first two attempts may be lost before that is known.
const ATTEMPTS: usize = 3;

#[derive(Debug, clap::Args)]
pub(in crate::cli) struct Arguments {
    #[command(flatten)]
    link: Link,
    /// Which units to look for; by default 1-247 on a serial line and 1-16,255,0 at a server
    #[arg(long, value_name = "LIST")]
    units: Option<String>,
    /// Read the units with this profile instead of guessing
    #[arg(long, value_name = "NAME")]
    profile: Option<String>,
    /// A directory with profiles of your own, which go before the built-in ones
    #[arg(long, value_name = "DIR", default_value = "/etc/v2g-edge/devices")]
    devices: PathBuf,
    /// Show the points again and again, at this interval
    #[arg(long, value_name = "DURATION", value_parser = config::duration)]
    every: Option<Duration>,
    /// One JSON object; with --every one a line
    #[arg(long)]
    json: bool,
}

/// What was found at one unit.
struct Finding<'a> {
    unit: UnitId,
    profile: Option<&'a ProfileView>,
    variant: Variant,
    fit: Fit,
    as_is: Fit,
    others: Vec<&'a str>,
    is_sunspec: bool,
    /// How long it does not hear after an answer.
    pause: Option<Duration>,
    points: Vec<Shown>,
}

pub(super) fn run(arguments: &Arguments) -> Result<Exit> {
    let source = ProfileSource::built_in().and_directory(&arguments.devices);
    let (profiles, faults) = profile_views(&source);
    if faults.iter().next().is_some() {
        note(&faults);
    }
    if let Some(name) = &arguments.profile
        && !profiles.iter().any(|profile| profile.name == *name)
    {
        let names: Vec<&str> = profiles.iter().map(|profile| profile.name.as_str()).collect();
        complain(format_args!("there is no profile \"{name}\"; there are: {}", names.join(", ")));
        return Ok(Exit::Usage);
    }
    let default = if arguments.link.is_serial() { UNITS_SERIAL } else { UNITS_TCP };
    let wanted = match units(arguments.units.as_deref().unwrap_or(default)) {
        Ok(wanted) => wanted,
        Err(error) => {
            complain(error);
            return Ok(Exit::Usage);
        }
    };
    block_on(async {
        let mut bus = arguments.link.open()?;
        let progress = Progress::new();
        let there = find(&mut bus, &wanted, &profiles, &progress).await?;
        let mut findings = Vec::new();
        for unit in there {
            findings.push(examine(&mut bus, unit, &profiles, arguments, &progress).await?);
        }
        progress.end();
        loop {
            tell(&findings, arguments)?;
            let Some(interval) = arguments.every.filter(|_| !findings.is_empty()) else { break };
            tokio::time::sleep(interval).await;
            for finding in &mut findings {
                finding.refresh(&mut bus).await?;
            }
        }
        Ok(if findings.is_empty() || findings.iter().any(|found| !found.is_understood()) {
            Exit::Wrong
        } else {
            Exit::Fine
        })
    })
}

/// The units that answer, be it to refuse.
async fn find(bus: &mut Bus, wanted: &[UnitId], profiles: &[ProfileView], progress: &Progress) -> Result<Vec<UnitId>> {
    let mut there = Vec::new();
    for (n, unit) in wanted.iter().enumerate() {
        progress.step(&format!("looking for unit {unit} ({} of {}), {} found", n + 1, wanted.len(), there.len()));
        match look(bus, *unit, profiles, progress).await? {
            Presence::There => {
                there.push(*unit);
                progress.tell(&format!("unit {unit} answers"));
            }
            Presence::Failing => {
                progress.tell(&format!(
                    "unit {unit} answers everything with a failure (exception 4): not counted as a unit"
                ));
            }
            Presence::Absent => {}
        }
    }
    Ok(there)
}

/// What is known of a unit after a look.
enum Presence {
    There,
    /// It says "server device failure" to everything: so do servers for units that they do not have.
    Failing,
    Absent,
}

async fn look(bus: &mut Bus, unit: UnitId, profiles: &[ProfileView], progress: &Progress) -> Result<Presence> {
    let firsts = profiles.iter().filter_map(|profile| profile.spec.groups.first()?.blocks.first().copied());
    // Whoever is there answers one of the first two, or refuses it.
    let tables = [RegisterTable::Holding, RegisterTable::Input];
    let blocks = tables.map(|table| RegisterBlock { unit: None, table, start: 0, count: 1 });
    let mut failing = false;
    for block in blocks.into_iter().chain(firsts) {
        let answer = bus.read(unit, block).await;
        match &answer {
            Err(error) if is_hopeless(error) => bail!("{error}"),
            Err(hal::BusError::Exception { code: 4, .. }) => failing = true,
            Err(hal::BusError::Timeout { .. }) => {
                return Ok(if failing { Presence::Failing } else { Presence::Absent });
            }
            _ if is_heard(&answer) => return Ok(Presence::There),
            Err(hal::BusError::Exception { .. }) => return Ok(Presence::Absent),
            Err(error) => progress.tell(&format!("unit {unit}: {error}")),
            Ok(_) => return Ok(Presence::There),
        }
        if !failing && block.start != 0 {
            break;
        }
    }
    Ok(if failing { Presence::Failing } else { Presence::Absent })
}

async fn fill(bus: &mut Bus, unit: UnitId, blocks: &[RegisterBlock], image: &mut Image) -> Result<()> {
    for block in blocks {
        if block.count == 0 || image.knows(*block) {
            continue;
        }
        let mut answer = bus.read(unit, *block).await;
        for _ in 1..ATTEMPTS {
            if !matches!(&answer, Err(error) if !is_hopeless(error) && !matches!(error, hal::BusError::Exception { .. }))
            {
                break;
            }
            answer = bus.read(unit, *block).await;
        }
        match answer {
            Err(error) if is_hopeless(&error) => bail!("{error}"),
            answer => image.put(*block, answer.ok().as_deref()),
        }
    }
    Ok(())
}

/// The blocks of a profile, and of those that were refused the points alone.
async fn fill_profile(bus: &mut Bus, unit: UnitId, spec: &crate::spec::DeviceSpec, image: &mut Image) -> Result<()> {
    let blocks: Vec<RegisterBlock> = spec.groups.iter().flat_map(|group| group.blocks.clone()).collect();
    fill(bus, unit, &blocks, image).await?;
    let extents: Vec<RegisterBlock> =
        spec.points.iter().filter_map(PointSpec::register).map(crate::spec::RegisterPoint::extent).collect();
    let refused =
        |block: &RegisterBlock| blocks.iter().any(|whole| image.words(*whole).is_none() && holds(whole, block));
    let alone: Vec<RegisterBlock> = extents.into_iter().filter(refused).collect();
    // Where not even the first of a refused block is there, the rest is not asked for one by one.
    let mut hopeless = 0;
    for block in alone {
        if hopeless == 3 {
            break;
        }
        fill(bus, unit, &[block], image).await?;
        hopeless = if image.words(block).is_some() { 0 } else { hopeless + 1 };
    }
    Ok(())
}

fn holds(whole: &RegisterBlock, part: &RegisterBlock) -> bool {
    let end = |block: &RegisterBlock| u32::from(block.start) + u32::from(block.count);
    (whole.unit, whole.table) == (part.unit, part.table) && whole.start <= part.start && end(part) <= end(whole)
}

async fn examine<'a>(
    bus: &mut Bus,
    unit: UnitId,
    profiles: &'a [ProfileView],
    arguments: &Arguments,
    progress: &Progress,
) -> Result<Finding<'a>> {
    let mut image = Image::default();
    let mark = |table| BASES.map(|start| RegisterBlock { unit: None, table, start, count: 2 });
    let marks = [mark(RegisterTable::Holding), mark(RegisterTable::Input)].concat();
    let mut is_sunspec = false;
    for mark in marks {
        fill(bus, unit, &[mark], &mut image).await?;
        is_sunspec |= image.words(mark).is_some_and(|words| words == MARK);
    }
    let registers: Vec<&ProfileView> = profiles
        .iter()
        .filter(|profile| arguments.profile.as_ref().is_none_or(|name| profile.name == *name))
        .filter(|profile| profile.spec.points.iter().any(|point| point.register().is_some()))
        .collect();
    let mut fits: Vec<(Fit, &ProfileView, Variant)> = Vec::new();
    for (n, profile) in registers.iter().enumerate() {
        progress.step(&format!("unit {unit}: trying {} ({} of {})", profile.name, n + 1, registers.len()));
        fill_profile(bus, unit, &profile.spec, &mut image).await?;
        fits.push((fit(&read(&profile.spec, &image)), profile, Variant::AS_IS));
    }
    let by_score =
        |a: &(Fit, &ProfileView, Variant), b: &(Fit, &ProfileView, Variant)| b.0.score().total_cmp(&a.0.score());
    fits.sort_by(by_score);
    // What does not fit as it is may fit one register further, in the other order, or in the other table.
    if !is_sunspec && !fits.first().is_some_and(|(fit, ..)| fit.is_good()) {
        let doubtful: Vec<&ProfileView> = fits.iter().take(12).map(|(_, profile, _)| *profile).collect();
        for profile in doubtful {
            progress.step(&format!("unit {unit}: trying {} with other bases and orders", profile.name));
            for variant in Variant::all().skip(1) {
                let spec = variant.of(&profile.spec);
                fill_profile(bus, unit, &spec, &mut image).await?;
                fits.push((fit(&read(&spec, &image)), profile, variant));
            }
        }
        fits.sort_by(by_score);
    }
    let best = fits.first().filter(|(fit, ..)| arguments.profile.is_some() || fit.is_good()).copied();
    let Some((found, profile, variant)) = best else {
        let (fit, as_is) = (Fit::default(), Fit::default());
        return Ok(Finding {
            unit,
            profile: None,
            variant: Variant::AS_IS,
            fit,
            as_is,
            others: vec![],
            is_sunspec,
            pause: bus.pause(unit),
            points: vec![],
        });
    };
    let close = |(fit, other, variant): &&(Fit, &ProfileView, Variant)| {
        fit.is_good()
            && other.name != profile.name
            && *variant == Variant::AS_IS
            && fit.score() >= found.score() * CLOSE
    };
    let others = fits.iter().filter(close).map(|(_, other, _)| other.name.as_str()).collect();
    let as_is = fits.iter().find(|(_, of, variant)| of.name == profile.name && *variant == Variant::AS_IS);
    let points = read(&variant.of(&profile.spec), &image);
    let as_is = as_is.map_or(found, |(fit, ..)| *fit);
    Ok(Finding {
        unit,
        profile: Some(profile),
        variant,
        fit: found,
        as_is,
        others,
        is_sunspec,
        pause: bus.pause(unit),
        points,
    })
}

impl Finding<'_> {
    fn is_understood(&self) -> bool {
        self.is_sunspec || (self.profile.is_some() && self.fit.is_good() && self.variant == Variant::AS_IS)
    }

    async fn refresh(&mut self, bus: &mut Bus) -> Result<()> {
        let Some(profile) = self.profile else { return Ok(()) };
        let spec = self.variant.of(&profile.spec);
        let mut image = Image::default();
        fill_profile(bus, self.unit, &spec, &mut image).await?;
        self.points = read(&spec, &image);
        self.fit = fit(&self.points);
        self.pause = bus.pause(self.unit);
        Ok(())
    }

    /// What it needs to be left alone after an answer, a little more than was found.
    fn pause_ms(&self) -> Option<u128> {
        self.pause.map(|pause| (pause.as_millis() / 10 + 1) * 10)
    }

    /// What to write into the configuration: the bus, and the device on it.
    fn config(&self, link: &Link) -> Option<String> {
        Some(format!("{}\n{}", link.config_lines().0, self.device_lines(link)?))
    }

    fn device_lines(&self, link: &Link) -> Option<String> {
        let (kind, profile) = match (self.profile, self.is_sunspec) {
            (_, true) => (DeviceKind::Meter, "sunspec".to_owned()),
            (Some(profile), _) if self.variant == Variant::AS_IS => (profile.spec.kind, profile.name.clone()),
            (Some(profile), _) => (profile.spec.kind, format!("my-{}", profile.name)),
            (None, false) => return None,
        };
        let (_, address) = link.config_lines();
        let (unit, kind, on) = (self.unit, kind.as_str(), link.bus_name());
        let device = format!("[device.{kind}-{unit}]\nkind = \"{kind}\"\nbus = \"{on}\"\n");
        let pause = self.pause_ms().map_or_else(String::new, |ms| format!("pause = \"{ms}ms\"\n"));
        let rest = format!("unit = {unit}\nprofile = \"{profile}\"\n{pause}");
        Some(format!("{device}{}{rest}", address.unwrap_or_default()))
    }

    /// What to write into a profile of one's own; `None` when the profile fits as it is.
    fn own_profile(&self) -> Option<String> {
        let profile = self.profile.filter(|_| self.variant != Variant::AS_IS)?;
        let lines = self.variant.remedy(&profile.name, &profile.spec, profile.address_base);
        let name = &profile.name;
        Some(format!("# devices/my-{name}.toml\n[profile]\nextends = \"{name}\"\n\n[modbus]\n{}\n", lines.join("\n")))
    }
}

fn tell(findings: &[Finding<'_>], arguments: &Arguments) -> Result<()> {
    use std::io::Write as _;
    let mut out = Stdout::new();
    if arguments.json {
        let units: Vec<Json> = findings.iter().map(|found| found_json(found, &arguments.link)).collect();
        writeln!(out, "{}", json!({ "units": units }))?;
        return Ok(());
    }
    if findings.is_empty() {
        writeln!(
            out,
            "no unit answers; check wiring (A and B swapped?), baud rate, parity, and the units' own settings"
        )?;
    }
    let paint = Paint::for_stdout();
    for found in findings {
        write!(out, "{}", found_text(found, paint))?;
    }
    // All units in one piece: a bus is written once.
    let devices: Vec<String> = findings.iter().filter_map(|found| found.device_lines(&arguments.link)).collect();
    if !devices.is_empty() {
        let (bus, _) = arguments.link.config_lines();
        write!(out, "\n{}\n{bus}\n{}", paint.dim("# gateway.toml"), devices.join("\n"))?;
    }
    out.flush()?;
    Ok(())
}

fn found_json(found: &Finding<'_>, link: &Link) -> Json {
    let points: Vec<Json> = found.points.iter().map(point_json).collect();
    json!({
        "unit": found.unit.get(),
        "profile": found.profile.map(|profile| &profile.name),
        "fits": found.is_understood(),
        "also": found.others,
        "sunspec": found.is_sunspec,
        "pause_ms": found.pause_ms(),
        "plausible": found.fit.plausible,
        "implausible": found.fit.implausible,
        "shift": found.variant.shift,
        "words_swapped": found.variant.swap_words,
        "other_table": found.variant.other_table,
        "points": points,
        "config": found.config(link),
        "own_profile": found.own_profile(),
    })
}

fn point_json(shown: &Shown) -> Json {
    let register = shown.spec.register();
    json!({
        "field": shown.spec.field.as_str(),
        "register": register.map(|register| register.address),
        "derived": shown.spec.derived().map(|derived| derived.formula.to_string()),
        "words": shown.words.as_ref().map(|words| words.iter().map(|word| format!("{word:04x}")).collect::<Vec<_>>()),
        "value": match &shown.outcome {
            Outcome::Good(value) | Outcome::Questionable(value, _) => match value {
                Value::Float(float) => json!(float),
                Value::Integer(integer) => json!(integer),
                Value::Text(text) => json!(text.as_ref()),
            },
            Outcome::Missing(_) => Json::Null,
        },
        "unit": shown.spec.unit.symbol(),
        "verdict": match shown.plausibility {
            Plausibility::Plausible => "plausible",
            Plausibility::Unknown => "unknown",
            Plausibility::Odd => "odd",
            Plausibility::Implausible => "implausible",
        },
    })
}

fn found_text(found: &Finding<'_>, paint: Paint) -> String {
    let mut out = format!("\n{}", paint.bold(&format!("unit {}", found.unit)));
    out += &match (found.profile, found.is_sunspec) {
        (Some(profile), _) if found.fit.is_good() && found.variant == Variant::AS_IS => {
            format!(
                ": {} ({} values are as they should be, {} are not)\n",
                paint.good(&profile.name),
                found.fit.plausible,
                found.fit.implausible
            )
        }
        (Some(profile), _) => {
            let as_is = format!(
                "{} of its values are as they should be, {} are not",
                found.as_is.plausible, found.as_is.implausible
            );
            format!(": {} as it is does not fit: {as_is}\n", paint.odd(&profile.name))
        }
        (None, true) => format!(": {}\n", paint.good("a SunSpec device; see: v2g-edge probe sunspec")),
        (None, false) => {
            format!(": {}\n", paint.odd("answers, but no profile fits; write one, or name one with --profile"))
        }
    };
    if !found.others.is_empty() {
        out += &format!("  almost as well: {}\n", found.others.join(", "));
    }
    if let Some(ms) = found.pause_ms() {
        out += &paint
            .odd(&format!("  it does not hear what comes within {ms} ms after its answer: it is left alone so long\n"));
    }
    for shown in &found.points {
        out += &point_text(shown, paint);
    }
    if let Some(own) = found.own_profile() {
        let (plausible, implausible) = (found.fit.plausible, found.fit.implausible);
        out +=
            &paint.bold(&format!("read like this, {plausible} values make sense and {implausible} do not; write:\n"));
        out += &own;
    }
    out
}

fn point_text(shown: &Shown, paint: Paint) -> String {
    let value = match &shown.outcome {
        Outcome::Good(value) | Outcome::Questionable(value, _) => match value {
            Value::Float(float) => format!("{float:.3} {}", shown.spec.unit.symbol()),
            Value::Integer(integer) => integer.to_string(),
            Value::Text(text) => format!("\"{text}\""),
        },
        Outcome::Missing(_) if shown.is_not_there() => "not there".to_owned(),
        Outcome::Missing(_) => "not available".to_owned(),
    };
    let words: Vec<String> = shown.words.iter().flatten().take(8).map(|word| format!("{word:04x}")).collect();
    let place = match (shown.spec.register(), shown.spec.derived()) {
        (Some(register), _) => format!("{} {}", register.table.as_str(), register.address),
        (None, Some(derived)) => derived.formula.to_string(),
        (None, None) => String::new(),
    };
    let line = format!("  {:<26} {value:>18}   {place:<14} {}", shown.spec.field.as_str(), words.join(" "));
    match shown.plausibility {
        Plausibility::Implausible => format!("{}\n", paint.bad(&format!("{line}   ?"))),
        Plausibility::Plausible | Plausibility::Unknown | Plausibility::Odd => line + "\n",
    }
}
