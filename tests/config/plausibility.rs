//! What must go together: what a profile and a device may say of it, and for which devices the rules are.

use std::collections::BTreeMap;
use std::time::Duration;

use v2g_edge::config::{self, Faults, Plan, ProfileSource, Surroundings, profile_views};
use v2g_edge::spec::{Rule, Tolerance};

use super::stage::{HEAD, METER, assert_faults, faults, plan};

/// Four lines, and behind them the rules of a test: the first stands in line 5.
const PROFILE: &str = "[profile]\nextends = \"eastron-sdm72d-m\"\nvendor = \"a\"\nmodel = \"b\"\n";

fn with_rules(rules: &str) -> Result<Plan, Faults> {
    let profiles = ProfileSource::built_in().and_text("mine", "devices/mine.toml", &format!("{PROFILE}{rules}"));
    let surroundings = Surroundings::none().with_profiles(profiles);
    config::parse(&format!("{HEAD}{}", METER.replace("eastron-sdm630", "mine")), "gateway.toml", &surroundings)
}

#[test]
fn a_profile_and_a_device_tighten_loosen_and_switch_off_a_rule() {
    let rules = "[plausibility.register_against_power]\ntolerance = \"2.5%\"\nhold = \"5m\"\n";
    let plan = with_rules(rules).unwrap_or_else(|faults| panic!("{faults}"));
    let tolerances = plan.devices[0].spec.points.tolerances();
    let hold = Duration::from_secs(300);
    assert_eq!(tolerances.of(Rule::RegisterAgainstPower), Tolerance { part: 0.025, hold, is_off: false });
    assert_eq!(tolerances.of(Rule::PhaseSum), Rule::PhaseSum.usual());

    let rules = "plausibility = { phase_sum = { hold = \"1m\" }, power_factor = { off = true } }\n";
    let of_device = self::plan(&format!("{HEAD}{METER}{rules}")).devices[0].spec.points.tolerances();
    let hold = Duration::from_secs(60);
    assert_eq!(of_device.of(Rule::PhaseSum), Tolerance { hold, ..Rule::PhaseSum.usual() });
    assert!(of_device.of(Rule::PowerFactor).is_off);
}

#[test]
fn what_is_wrong_with_a_rule_is_told_with_its_line_and_what_to_write() {
    let rules = "[plausibility.fase_sum]\n[plausibility.phase_sum]\ntolerance = \"2 %\"\n[plausibility.register_against_power]\n\
                 tolerance = \"150 %\"\nhold = \"2h\"\nfor = \"1s\"\n[plausibility.soc_against_energy]\noff = true\n";
    let found = with_rules(rules).expect_err("it has mistakes");
    assert_faults(
        &found,
        &[
            (5, "there is no rule fase_sum", "[plausibility.phase_sum]"),
            (6, "nothing that the rule phase_sum compares: it looks at power_flow, power_flow_l1", "delete this table"),
            (9, "\"150 %\" is no percentage", "0 % to 100 %"),
            (10, "above the bound of 1h", "1h"),
            (11, "for", "off"),
            (12, "nothing that the rule soc_against_energy compares", "delete this table"),
        ],
    );
    let device = faults(&format!("{HEAD}{METER}plausibility = {{ phase_direction = {{ off = true }} }}\n"));
    assert_faults(&device, &[(15, "of devices of kind evse", "delete this table")]);
}

/// Which rules look at a device of each profile that is built in.
#[test]
fn the_rules_that_each_profile_has_the_quantities_for_are_these() {
    let (views, faults) = profile_views(&ProfileSource::built_in());
    assert!(faults.is_empty(), "{faults}");
    let rules = |name: &str| {
        let spec = &views.iter().find(|view| view.name == name).unwrap_or_else(|| panic!("no {name}")).spec;
        let own = Rule::ALL.into_iter().filter(|rule| spec.points.has_quantities_of(*rule, spec.kind));
        own.map(Rule::as_str).collect::<Vec<_>>()
    };
    let told: BTreeMap<&str, Vec<&str>> = views.iter().map(|view| (view.name.as_str(), rules(&view.name))).collect();
    let [current, sum, direction, apparent, factor, register, soc] = Rule::ALL.map(Rule::as_str);
    for (name, expected) in [
        ("eastron-sdm630", &[current, sum, apparent, factor, register][..]),
        ("eastron-sdm72d-m", &[register]),
        ("alfen-eve-ng9xx", &[current, sum, direction, apparent, factor, register]),
        ("abb-terra-ac", &[current]),
        ("keba-p30", &[current, register]),
        ("webasto-unite", &[current, sum, direction, register]),
        ("alpitronic-hypercharger", &[current, register, soc]),
        ("sim-bidirectional-dc", &[current, register, soc]),
        // Its power is worked out of voltage and current.
        ("chademo", &[soc]),
        ("infypower-v113", &[]),
        ("iso15118", &[soc]),
    ] {
        assert_eq!(told[name], expected, "{name}");
    }
}
