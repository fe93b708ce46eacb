//! Surveys of simulated devices.

use std::collections::BTreeMap;

use super::*;
use crate::spec::{Aggregation, Scaling, SunSpecPoint, SunSpecSource, Unit, ValueType};

/// The registers of a device.
#[derive(Debug, Default, Clone)]
struct Registers(BTreeMap<u16, u16>);

impl Registers {
    fn lay(&mut self, at: u16, words: &[u16]) {
        self.0.extend((at..).zip(words.iter().copied()));
    }

    fn read(&self, block: RegisterBlock) -> Option<Vec<u16>> {
        (0..block.count).map(|n| self.0.get(&block.start.checked_add(n)?).copied()).collect()
    }
}

/// A model whose registers are 0 but for these points.
fn model(id: u16, length: u16, points: &[(&str, &[u16])]) -> Vec<u16> {
    let mut words = vec![0; usize::from(length) + 2];
    words[..2].copy_from_slice(&[id, length]);
    for (name, value) in points {
        let at = usize::from(Place::of(id, name).expect(name).offset);
        words[at..at + value.len()].copy_from_slice(value);
    }
    words
}

fn point(field: &str, from: &[(&str, RangeInclusiveU16, bool)]) -> PointSpec {
    let source = |(point, models, invert): &(&str, RangeInclusiveU16, bool)| SunSpecSource {
        models: models.clone(),
        point: (*point).into(),
        invert: *invert,
        divide: 1.0,
    };
    PointSpec {
        field: field.try_into().expect("a field"),
        unit: Unit::One,
        value_type: ValueType::Float,
        aggregation: Aggregation::Mean,
        valid: None,
        frozen_after: None,
        scaling: Scaling::default(),
        origin: Origin::SunSpec(SunSpecPoint { from: from.iter().map(source).collect() }),
    }
}

type RangeInclusiveU16 = std::ops::RangeInclusive<u16>;

fn wanted() -> Vec<PointSpec> {
    vec![
        point("power_flow", &[("W", 201..=204, false), ("W", 701..=701, true)]),
        point("der_power", &[("W", 701..=701, true)]),
        point("soc", &[("SoC", 713..=713, false)]),
        point("energy_export", &[("TotWhExp", 201..=204, false)]),
    ]
}

/// Meter, inverter and storage in one device at this base.
fn device(base: u16) -> Registers {
    let mut registers = Registers::default();
    registers.lay(base, &MARK);
    let mut at = base + 2;
    for words in [
        model(1, 66, &[]),
        model(203, 105, &[("W", &[1234]), ("W_SF", &[0xffff]), ("TotWhExp", &[0, 0])]),
        model(701, 153, &[("W", &[0xf830]), ("W_SF", &[1])]),
        model(713, 7, &[("SoC", &[455]), ("Pct_SF", &[0xffff])]),
        vec![END, 0],
    ] {
        registers.lay(at, &words);
        at += u16::try_from(words.len()).expect("short");
    }
    registers
}

/// Asks as the schedule would, until something other than a step comes.
fn settle(survey: &mut Survey, registers: &Registers) -> Vec<SurveyStep> {
    for _ in 0..100 {
        let [fast, slow] = survey.blocks();
        let mut told = Vec::new();
        for block in fast.into_iter().chain(slow) {
            let answer = match registers.read(block) {
                Some(words) => survey.answered(block, &words),
                None => survey.refused(block),
            };
            if answer == SurveyStep::Step {
                told.clear();
                break;
            }
            told.push(answer);
        }
        if !told.is_empty() {
            return told;
        }
    }
    panic!("it never ends");
}

fn values(told: Vec<SurveyStep>) -> Vec<(u16, Result<Raw, Missing>)> {
    let values =
        told.into_iter().filter_map(|told| if let SurveyStep::Values(values) = told { Some(values) } else { None });
    let mut all: Vec<_> = values.flatten().map(|(ix, value)| (ix.0, value)).collect();
    all.sort_by_key(|(ix, _)| *ix);
    all
}

#[test]
fn a_chain_is_found_at_every_base_and_read_with_scales_and_signs() {
    for base in BASES {
        let mut survey = Survey::new(&wanted());
        let read = values(settle(&mut survey, &device(base)));
        let ids: Vec<u16> = survey.chain().iter().map(|model| model.id).collect();
        assert_eq!(ids, [1, 203, 701, 713], "at {base}");
        // 1234 * 10^-1 W imported; -2000 * 10^1 W injected are 20000 W absorbed; 455 * 10^-1 %. No energy is implemented.
        let expected = [(0, 123.4), (1, 20_000.0), (2, 45.5)].map(|(ix, value)| (ix, Ok(Raw::Float(value))));
        assert_eq!(read, expected, "at {base}");
    }
}

/// Found by fuzzing: the addresses of such a model went round to 0, where other registers are.
#[test]
fn a_model_that_would_lie_beyond_the_last_register_ends_the_chain() {
    // The meter of 107 registers is the last thing that a device has room for, or one register too long for it.
    for (at, ids) in [(65_429, vec![64_001, 203]), (65_430, vec![64_001])] {
        let mut registers = Registers::default();
        registers.lay(40_000, &MARK);
        registers.lay(40_002, &[64_001, at - 40_004]);
        let meter = model(203, 105, &[("W", &[1234]), ("W_SF", &[0])]);
        registers.0.extend((at..=u16::MAX).zip(meter));
        let mut survey = Survey::new(&wanted());
        while !survey.is_known() {
            let [blocks, _] = survey.blocks();
            let told = match registers.read(blocks[0]) {
                Some(words) => survey.answered(blocks[0], &words),
                None => survey.refused(blocks[0]),
            };
            assert_eq!(told, SurveyStep::Step);
        }
        assert_eq!(survey.chain().iter().map(|model| model.id).collect::<Vec<_>>(), ids);
    }
}

#[test]
fn a_device_without_the_mark_is_not_sunspec() {
    let mut survey = Survey::new(&wanted());
    assert_eq!(settle(&mut survey, &Registers::default()), [SurveyStep::NoSunSpec]);
    assert!(!survey.is_known());
}

#[test]
fn a_chain_that_ends_without_an_end_is_what_was_there() {
    let mut registers = device(40_000);
    let end = *registers.0.last_key_value().expect("some").0;
    registers.0.retain(|at, _| *at < end - 1);
    let mut survey = Survey::new(&wanted());
    settle(&mut survey, &registers);
    assert_eq!(survey.chain().len(), 4);
}

#[test]
fn a_device_whose_models_have_moved_is_surveyed_anew_and_no_value_is_taken_from_where_they_were() {
    let mut survey = Survey::new(&wanted());
    settle(&mut survey, &device(40_000));
    let mut moved = Registers::default();
    moved.lay(40_000, &MARK);
    let words = model(713, 7, &[("SoC", &[99]), ("Pct_SF", &[0])]);
    moved.lay(40_002, &words);
    moved.lay(40_002 + 9, &model(203, 105, &[("W", &[5]), ("W_SF", &[0])]));
    moved.lay(40_002 + 9 + 107, &[END, 0]);
    let [fast, _] = survey.blocks();
    let told = moved.read(fast[0]).map(|words| survey.answered(fast[0], &words));
    assert!(matches!(told, None | Some(SurveyStep::Step)), "{told:?}");
    if told.is_none() {
        survey.state = State::Base(0);
    }
    let read = values(settle(&mut survey, &moved));
    assert_eq!(read, [(0, Ok(Raw::Integer(5))), (2, Ok(Raw::Integer(99)))]);
}

#[test]
fn a_device_that_refuses_long_reads_is_read_in_parts() {
    let registers = device(40_000);
    let mut survey = Survey::new(&wanted());
    let mut read = Vec::new();
    for _ in 0..100 {
        let [fast, slow] = survey.blocks();
        for block in fast.into_iter().chain(slow) {
            let told = match registers.read(block).filter(|_| block.count <= 50) {
                Some(words) => survey.answered(block, &words),
                None => survey.refused(block),
            };
            match told {
                SurveyStep::Step => break,
                SurveyStep::Values(values) => read.extend(values),
                _ => {}
            }
        }
    }
    assert!(read.contains(&(PointIx(1), Ok(Raw::Float(20_000.0)))), "{read:?}");
}

#[test]
fn a_value_that_was_there_and_is_gone_is_missing_and_one_that_never_was_is_not_told() {
    let mut registers = device(40_000);
    let mut survey = Survey::new(&wanted());
    settle(&mut survey, &registers);
    let at = survey.chain()[3].address;
    registers.lay(at + 4, &[0xffff]);
    let read = values(settle(&mut survey, &registers));
    assert!(read.contains(&(2, Err(Missing::Decode))), "{read:?}");
    assert!(read.iter().all(|(ix, _)| *ix != 3), "{read:?}");
}

/// One silent model made every point of the device missing.
#[test]
fn a_silent_model_makes_its_own_points_missing_and_no_others() {
    let registers = device(40_000);
    let mut survey = Survey::new(&wanted());
    assert_eq!(survey.silent(survey.blocks()[0][0], Missing::Timeout), None, "before the survey nothing is known");
    settle(&mut survey, &registers);
    let all: Vec<PointIx> = survey.known_points().collect();
    let [fast, slow] = survey.blocks();
    let mut missing: Vec<PointIx> = Vec::new();
    for block in fast.into_iter().chain(slow) {
        let of_it = survey.silent(block, Missing::Timeout).expect("it is known");
        assert!(!of_it.is_empty() && of_it.len() < all.len(), "{of_it:?} of {all:?}");
        missing.extend(of_it.into_iter().map(|(ix, value)| {
            assert_eq!(value, Err(Missing::Timeout));
            ix
        }));
    }
    missing.sort_unstable();
    assert_eq!(missing, all, "each is in one");
}
