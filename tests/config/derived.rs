//! Points that are worked out of others: what a profile may say, and what it is told where that is wrong.

use std::time::Duration;

use v2g_edge::config::{self, Faults, Plan, ProfileSource, Surroundings};
use v2g_edge::spec::{Aggregation, Conversion, DerivedFormula, DerivedTerm, PointSpec, Unit, ValueType};

use super::stage::{HEAD, METER, assert_faults, point};

/// Nineteen lines, and behind them the points of a test: the first stands in line 20.
const PROFILE: &str = r#"[profile]
vendor = "a"
model = "b"
kind = "meter"
sources = ["c"]
[modbus]
address_base = 0
table = "input"
type = "f32"
word_order = "msw-first"
[group.fast]
interval = "poll"
[point]
voltage = { register = 0, unit = "mV", group = "fast" }
current = { register = 2, unit = "A", sign = "export-positive", group = "fast" }
p_l1 = { register = 4, unit = "W", group = "fast" }
p_l2 = { register = 6, unit = "kW", group = "fast" }
energy_import = { register = 8, unit = "Wh", group = "fast" }
state = { register = 10, type = "u16", texts = { 0 = "idle" }, group = "fast" }
"#;

fn parse(profile: &str, bus: &str, device: &str) -> Result<Plan, Faults> {
    let profiles = ProfileSource::built_in().and_text("mine", "devices/mine.toml", profile);
    let surroundings = Surroundings::none().with_profiles(profiles);
    config::parse(&format!("{}{device}", HEAD.replace("modbus-tcp = {}", bus)), "gateway.toml", &surroundings)
}

fn with_points(points: &str) -> Result<Plan, Faults> {
    parse(&format!("{PROFILE}{points}"), "modbus-tcp = {}", &METER.replace("eastron-sdm630", "mine"))
}

/// A point of a plan with one device.
fn only(plan: Result<Plan, Faults>, field: &str) -> PointSpec {
    point(&plan.unwrap_or_else(|faults| panic!("{faults}")).devices[0].spec, field).clone()
}

fn formula(point: &PointSpec) -> &DerivedFormula {
    &point.derived().unwrap_or_else(|| panic!("{} comes over a wire", point.field)).formula
}

#[test]
fn every_way_to_work_out_a_point_is_read_with_the_unit_that_follows() {
    for (written, told, unit, conversion) in [
        ("{ sum = [\"p_l1\", \"2 * p_l2\"] }", "sum of p_l1, 2 * p_l2", Unit::Kilowatt, (1.0, 1.0)),
        ("{ difference = [\"p_l1\", \"p_l2\"] }", "difference of p_l1 and p_l2", Unit::Kilowatt, (1.0, 1.0)),
        ("{ phase_total = \"p\" }", "sum of p_l1, p_l2", Unit::Kilowatt, (1.0, 1.0)),
        ("{ product = [\"voltage\", \"current\"] }", "product of voltage, current", Unit::Kilowatt, (1.0, 1000.0)),
        ("{ product = [\"voltage\", \"current\"], unit = \"VA\" }", "product", Unit::KilovoltAmpere, (1.0, 1000.0)),
        ("{ quotient = [\"p_l1\", \"p_l2\"] }", "quotient of p_l1 and p_l2", Unit::One, (1.0, 1.0)),
        ("{ quotient = [\"p_l1\", \"p_l2\"], unit = \"%\" }", "quotient", Unit::Percent, (100.0, 1.0)),
        ("{ quotient = [\"p_l1\", \"voltage\"] }", "quotient", Unit::Ampere, (1000.0, 1.0)),
        ("{ rate = \"energy_import\" }", "rate of energy_import", Unit::Kilowatt, (3600.0, 1.0)),
        ("{ rate = \"voltage\", unit = \"\", scale = 60 }", "rate of voltage", Unit::One, (60.0, 1.0)),
        ("{ product = [\"p_l1\", \"p_l1\"], unit = \"\" }", "product of p_l1, p_l1", Unit::One, (1.0, 1.0)),
    ] {
        let point = only(with_points(&format!("x = {written}\n")), "x");
        assert!(formula(&point).to_string().starts_with(told), "{written}: {}", formula(&point));
        let (multiply, divide) = conversion;
        assert_eq!((point.unit, point.scaling.conversion), (unit, Conversion { multiply, divide }), "{written}");
    }
}

#[test]
fn a_point_that_is_worked_out_of_such_points_has_its_own_range_fold_and_sign() {
    let points = "a = { product = [\"b\", \"current\"], unit = \"W\", valid = [0, 500], sign = \"export-positive\", fold = \"last\", \
                  stale_after = \"3s\" }\nb = { sum = [\"voltage\", \"-voltage\"] }\nc = { rate = \"energy_import\", over = \"1m\" }\n\
                  d = { sum = [\"p_l1\", \"p_l2\"], shape = \"float\", scale = 0.1, offset = 5 }\n";
    let plan = with_points(points).unwrap_or_else(|faults| panic!("{faults}"));
    let spec = &plan.devices[0].spec;
    let a = point(spec, "a");
    assert_eq!((a.valid.clone(), a.scaling.invert, a.aggregation), (Some(-0.5..=-0.0), true, Aggregation::Last));
    assert_eq!(a.derived().and_then(|derived| derived.stale_after), Some(Duration::from_secs(3)));
    let term = |times, field: &str| DerivedTerm { times, field: field.try_into().expect("a field") };
    assert_eq!(*formula(point(spec, "b")), DerivedFormula::Sum(vec![term(1.0, "voltage"), term(-1.0, "voltage")]));
    let of = "energy_import".try_into().expect("a field");
    assert_eq!(*formula(point(spec, "c")), DerivedFormula::Rate { of, over: Duration::from_secs(60) });
    let d = point(spec, "d");
    assert_eq!((d.scaling.conversion.divide, d.scaling.offset, d.value_type), (10.0, 5.0, ValueType::Float));
    assert!(spec.groups.iter().flat_map(|group| &group.blocks).all(|block| block.start + block.count <= 11));
    let derived: Vec<_> = plan.summary().devices[0].derived.iter().map(|d| (d.point.clone(), d.of.clone())).collect();
    assert_eq!(derived.len(), 4);
    assert_eq!(derived[2], ("c".to_owned(), "rate of energy_import".to_owned()));
}

#[test]
fn a_name_that_consumers_know_has_its_own_unit_where_the_formula_allows_it() {
    let ratio = only(with_points("soc = { quotient = [\"p_l1\", \"p_l2\"] }\n"), "soc");
    assert_eq!((ratio.unit, ratio.scaling.conversion.multiply), (Unit::Percent, 100.0));
    let apparent = only(with_points("power_apparent = { product = [\"voltage\", \"current\"] }\n"), "power_apparent");
    assert_eq!(apparent.unit, Unit::KilovoltAmpere);
    let power = only(with_points("power_flow = { rate = \"energy_import\" }\n"), "power_flow");
    assert_eq!(power.unit, Unit::Kilowatt, "and its sign is that of what it is worked out of");
}

#[test]
fn a_mistake_in_what_is_worked_out_is_told_at_its_line_with_what_to_write_instead() {
    for (points, line, problem, remedy) in [
        ("x = { sum = [\"p_l1\", \"p_l22\"] }", 20, "worked out of p_l22, which is not a point", "\"p_l2\""),
        ("x = { sum = [\"p_l1\", \"x\"] }", 20, "worked out of itself: x → x", "do not need this one"),
        ("x = { sum = [\"p_l1\"] }", 20, "is a sum of 1", "two points or more"),
        ("x = { product = [] }", 20, "has 0 items", "product = ["),
        ("x = { difference = [\"p_l1\"] }", 20, "not a list of two signals or points", "difference = ["),
        (
            "x = { quotient = [\"p_l1\", \"p_l2\", \"p_l1\"] }",
            20,
            "not a list of two signals or points",
            "quotient = [",
        ),
        ("x = { rate = [\"p_l1\"] }", 20, "not a text", "rate = \"energy_import\""),
        ("x = { sum = [\"p_l1\", \"voltage\"] }", 20, "p_l1 in \"kW\" and voltage in \"V\"", "points of one unit"),
        (
            "x = { product = [\"p_l1\", \"p_l1\"] }",
            20,
            "\"kW\" and \"kW\", the unit of which cannot be worked out",
            "unit = ",
        ),
        ("x = { rate = \"voltage\" }", 20, "cannot be worked out", "unit = "),
        (
            "x = { product = [\"voltage\", \"current\"], unit = \"V\" }",
            20,
            "as a product of these it is in \"kW\"",
            "unit = \"kW\"",
        ),
        (
            "x = { rate = \"energy_import\", unit = \"kvar\" }",
            20,
            "as a rate of these it is in \"kW\"",
            "unit = \"kW\"",
        ),
        ("x = { sum = [\"p_l1\", \"p_l2\"], unit = \"V\" }", 20, "as a sum of these it is in \"kW\"", "unit = \"kW\""),
        ("soc = { sum = [\"p_l1\", \"p_l2\"] }", 20, "a point of this name is in % on the wire", "or another name"),
        ("x = { sum = [\"p_l1\", \"state\"] }", 20, "worked out of state, which is a text", "that are numbers"),
        ("x = { sum = [\"p_l1\", \"p_l2?\"] }", 20, "p_l2?, a point, which is known or not by itself", "\"p_l2\""),
        ("x = { sum = [\"p_l1\", \"two * p_l2\"] }", 20, "no number times a name", "\"2 * Name\""),
        ("x = { phase_total = \"q\" }", 20, "there is no point q_l1", "phase_total = \"p\""),
        ("x = { rate = \"energy_import\", shape = \"integer\" }", 20, "cannot be a code", "shape = \"float\""),
        ("x = { sum = [\"p_l1\", \"p_l2\"], rate = \"p_l1\" }", 20, "in one way", "one of register, signal, sum"),
        ("x = { sum = [\"p_l1\", \"p_l2\"], over = \"1m\" }", 20, "only a rate is one over a time", "rate = "),
        ("x = { sum = [\"p_l1\", \"p_l2\"], type = \"f32\" }", 20, "has no type of its own", "it without type"),
        ("x = { sum = [\"p_l1\", \"p_l2\"], group = \"fast\" }", 20, "has no group of its own", "it without group"),
        (
            "x = { sum = [\"p_l1\", \"p_l2\"], optional = true }",
            20,
            "has no optional of its own",
            "it without optional",
        ),
        (
            "x = { sum = [\"p_l1\", \"p_l2\"], frozen_after = \"1m\" }",
            20,
            "has no frozen_after of its own",
            "it without",
        ),
        (
            "power_flow = { product = [\"voltage\", \"current_l1\"] }\ncurrent_l1 = { register = 20, unit = \"A\", group = \"fast\" }",
            21,
            "current_l1 has no sign",
            "import-positive",
        ),
    ] {
        let faults = with_points(&format!("{points}\n")).expect_err(points);
        assert_faults(&faults, &[(line, problem, remedy)]);
        assert_eq!(faults.as_slice()[0].file, "devices/mine.toml", "{points}");
    }
}

#[test]
fn a_cycle_is_told_once_with_all_that_is_in_it() {
    let points = "a = { sum = [\"p_l1\", \"b\"] }\nb = { rate = \"c\", unit = \"kW\" }\nc = { sum = [\"a\", \"p_l2\"] }\n\
                  d = { sum = [\"a\", \"p_l2\"] }\n";
    let faults = with_points(points).expect_err("a cycle");
    assert_faults(&faults, &[(20, "the point a is worked out of itself: a → b → c → a", "do not need this one")]);
}

#[test]
fn a_profile_that_is_laid_over_another_works_out_what_that_reads_and_the_other_way_round() {
    let over = |points: &str| {
        let base = format!("{PROFILE}x = {{ sum = [\"p_l1\", \"p_l2\"] }}\n");
        let text = format!("[profile]\nextends = \"mine\"\n[point]\n{points}\n");
        let profiles = ProfileSource::built_in().and_text("mine", "devices/mine.toml", &base).and_text(
            "over",
            "devices/over.toml",
            &text,
        );
        let device = METER.replace("eastron-sdm630", "over");
        config::parse(&format!("{HEAD}{device}"), "gateway.toml", &Surroundings::none().with_profiles(profiles))
    };
    let worked_out = only(
        over(
            "energy_import = { sum = [\"x_wh\", \"x_wh\"] }\nx_wh = { register = 20, unit = \"Wh\", group = \"fast\" }",
        ),
        "energy_import",
    );
    assert_eq!((worked_out.scaling.conversion, worked_out.register()), (Conversion::IDENTITY, None));
    let read = only(over("x = { register = 20, unit = \"W\", group = \"fast\" }"), "x");
    assert!(read.register().is_some() && read.derived().is_none());
    let changed = only(over("x = { valid = [0, 5] }"), "x");
    assert_eq!((formula(&changed).to_string().as_str(), changed.valid.clone()), ("sum of p_l1, p_l2", Some(0.0..=5.0)));
}

#[test]
fn points_are_worked_out_upon_sunspec_and_beside_charging_sessions() {
    let sunspec =
        "[profile]\nextends = \"sunspec\"\nkind = \"inverter\"\n[point]\nx = { phase_total = \"power_flow\" }\n";
    let inverter = METER.replace("eastron-sdm630", "mine").replace("\"meter\"", "\"inverter\"");
    let plan = parse(sunspec, "modbus-tcp = {}", &inverter);
    assert_eq!(only(plan, "x").unit, Unit::Kilowatt);
    let told = |text: &str| parse(text, "modbus-tcp = {}", &inverter).expect_err(text).to_string();
    let faults = told(&sunspec.replace("x = ", "power_dc = "));
    assert!(faults.contains("the name of one that the device tells itself"), "{faults}");
    let faults = told(&sunspec.replace("{ phase_total = \"power_flow\" }", "{ register = 1 }"));
    assert!(faults.contains("no place in a profile upon SunSpec"), "{faults}");

    let sessions = "[profile]\nvendor = \"a\"\nmodel = \"b\"\nkind = \"evse\"\nsources = [\"c\"]\n[iso15118]\n\
                    values = [\"all\"]\n[point]\nx = { product = [\"voltage\", \"current\"] }\n";
    let device = "[device.evse-07]\nkind = \"evse\"\nbus = \"lan\"\nprofile = \"mine\"\n";
    let wire = "iso15118 = { tap = \"eth1\" }";
    assert_eq!(only(parse(sessions, wire, device), "x").unit, Unit::Kilowatt);
    let text = sessions.replace("product = [\"voltage\", \"current\"]", "register = 1");
    let faults = parse(&text, wire, device).expect_err("a register").to_string();
    assert!(faults.contains("no place in a profile with [iso15118]"), "{faults}");
}

#[test]
fn on_a_can_bus_a_formula_is_of_signals_or_of_points_and_says_which() {
    let own = |points: &str| {
        let text = format!(
            "[profile]\nvendor = \"a\"\nmodel = \"b\"\nkind = \"evse\"\nsources = [\"c\"]\n[can]\ndbc = \"chademo.dbc\"\n[point]\n\
             u = {{ signal = \"PresentOutputVoltage\" }}\ni = {{ signal = \"PresentOutputCurrent\", unit = \"A\" }}\n{points}\n"
        );
        let device = "[device.dc-1]\nkind = \"evse\"\nbus = \"lan\"\nprofile = \"mine\"\n";
        parse(&text, "can = { interface = \"can0\", bitrate = 500000 }", device)
    };
    let of_signals =
        only(own("x = { difference = [\"PresentOutputCurrent\", \"ChargingCurrentRequest\"], unit = \"A\" }"), "x");
    assert!(of_signals.signal().is_some_and(|signal| signal.formula.signals().count() == 2));
    let of_points = only(own("x = { quotient = [\"u\", \"i\"] }"), "x");
    assert_eq!((of_points.unit, formula(&of_points).to_string().as_str()), (Unit::Ohm, "quotient of u and i"));
    let faults = own("x = { sum = [\"i\", \"ChargingCurrentRequest\"] }").expect_err("both");
    assert_faults(&faults, &[(11, "ChargingCurrentRequest, which is a signal and not a point", "a point of its own")]);
}
