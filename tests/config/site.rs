//! `[site]`: the depot as a whole.

use v2g_edge::spec::{DeviceIx, SiteSpec};

use super::stage::{HEAD, METER, assert_faults, faults, plan};

const EVSE: &str = "[device.dc-1]\nkind = \"evse\"\nbus = \"lan\"\naddress = \"10.0.0.17\"\nunit = 1\n\
    profile = \"sim-bidirectional-dc\"\nbattery_capacity = \"77kWh\"\n";

#[test]
fn the_connection_its_limits_and_the_batteries_are_read() {
    let site = "[site]\nmeter = \"grid-main\"\nimport_max = \"250kW\"\nexport_max = \"99500W\"\nv2g_soc_floor = 30\n";
    let plan = plan(&format!("{HEAD}{EVSE}{METER}{site}"));
    let expected = SiteSpec {
        meter: Some(DeviceIx(1)),
        import_max_kw: Some(250.0),
        export_max_kw: Some(99.5),
        v2g_soc_floor: 30.0,
        battery_capacities: [(DeviceIx(0), 77.0)].into(),
        ..SiteSpec::default()
    };
    assert_eq!(plan.site, expected);
    let depot = plan.summary().depot;
    assert_eq!(depot.meter.as_ref().map(|id| id.as_str()), Some("grid-main"));
}

#[test]
fn each_mistake_about_the_depot_is_told_with_its_line() {
    let site =
        "[site]\nmeter = \"grid-mian\"\nimport_max = 250\nexport_max = \"100 KW\"\nhold = \"0s\"\nhysteresis = 80\n";
    let text = format!("{HEAD}{METER}{site}");
    let first = text.lines().position(|line| line == "[site]").expect("a table") + 2;
    assert_faults(
        &faults(&text),
        &[
            (first, "a device that is not in this file", "grid-main"),
            (first + 1, "without a unit", "units: W, kW, MW"),
            (first + 2, "has a space in it", "\"100kW\""),
            (first + 3, "below the bound of 1s", "\"1s\""),
            (first + 4, "outside 0 to 50", "hysteresis"),
        ],
    );
}

#[test]
fn a_charge_point_is_no_meter_of_a_connection_and_a_meter_has_no_vehicle() {
    let text = format!("{HEAD}{EVSE}{METER}battery_capacity = \"10kWh\"\n[site]\nmeter = \"dc-1\"\n");
    let line = |what: &str| text.lines().position(|line| line == what).expect("a line") + 1;
    assert_faults(
        &faults(&text),
        &[
            (line("battery_capacity = \"10kWh\""), "no vehicle is at a device of kind meter", "delete this line"),
            (line("meter = \"dc-1\""), "dc-1 is of kind evse", "kind = \"meter\""),
        ],
    );
}
