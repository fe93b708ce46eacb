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
                None => survey.refused(block, 2),
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
                None => survey.refused(blocks[0], 2),
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
                None => survey.refused(block, 2),
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

/// `power_apparent` of a device that has none was told as `overrun` in the first window after the survey.
#[test]
fn a_model_that_was_not_asked_in_time_says_nothing_of_points_that_never_had_a_value() {
    let registers = device(40_000);
    let mut survey = Survey::new(&wanted());
    while !survey.is_known() {
        let step = survey.blocks().concat()[0];
        survey.answered(step, &registers.read(step).expect("it is there"));
    }
    for block in survey.blocks().concat() {
        assert_eq!(survey.silent(block, Missing::Overrun), Some(Vec::new()), "{block:?}");
    }
    settle(&mut survey, &registers);
    let known = survey.known_points().count();
    let blocks = survey.blocks().concat();
    let missing: usize =
        blocks.into_iter().map(|block| survey.silent(block, Missing::Overrun).expect("it is known").len()).sum();
    assert_eq!(missing, known);
}

/// A device that answers no more than ten registers at once, and has its models in the input registers: it was given up.
#[test]
fn a_device_of_short_answers_that_has_its_models_in_the_input_registers_is_read() {
    let mut registers = Registers::default();
    let chain = [
        MARK.to_vec(),
        model(1, 66, &[]),
        model(203, 105, &[("W", &[1_530]), ("W_SF", &[1])]),
        model(713, 7, &[("SoC", &[615]), ("Pct_SF", &[0xffff])]),
        vec![END, 0],
    ];
    registers.lay(40_000, &chain.concat());
    let mut survey = Survey::new(&wanted());
    let mut known = BTreeMap::new();
    let mut asked = 0;
    while asked < 200 && known.len() < 2 {
        for block in survey.blocks().concat() {
            asked += 1;
            let is_there = block.table == RegisterTable::Input && block.count <= 10;
            let told = match registers.read(block).filter(|_| is_there) {
                Some(words) => survey.answered(block, &words),
                None => survey.refused(block, 2),
            };
            match told {
                SurveyStep::Values(values) => known.extend(values),
                SurveyStep::Part => {}
                _ => break,
            }
        }
    }
    assert!(known.contains_key(&PointIx(0)), "{known:?}");
    assert!(known.contains_key(&PointIx(2)), "{known:?}");
    assert!(asked < 60, "{asked} requests");
}

/// One refusal made the requests of every model shorter.
#[test]
fn a_model_that_is_refused_for_its_length_makes_the_requests_of_no_other_shorter() {
    let registers = device(40_000);
    let mut survey = Survey::new(&wanted());
    settle(&mut survey, &registers);
    let longest = |survey: &Survey, id: u16| {
        let model = *survey.chain().iter().find(|model| model.id == id).expect("it is there");
        let of_it = |block: &RegisterBlock| (model.address..model.address + model.length + 2).contains(&block.start);
        survey.blocks().concat().into_iter().filter(of_it).map(|block| block.count).max().expect("it is read")
    };
    let before = [203, 701].map(|id| longest(&survey, id));
    let block = survey.blocks().concat().into_iter().find(|block| block.count == before[0]).expect("it is read");
    assert_eq!(survey.refused(block, 3), SurveyStep::Part, "one may be a mood");
    assert_eq!(survey.refused(block, 3), SurveyStep::Step);
    assert_eq!([203, 701].map(|id| longest(&survey, id)), [before[0] / 2, before[1]]);
}

/// "Server device failure" is of the moment, and says nothing of lengths or of the end of a chain.
#[test]
fn a_failure_of_the_device_makes_no_request_shorter_and_ends_no_chain() {
    let registers = device(40_000);
    let mut survey = Survey::new(&wanted());
    let mut failures = 0;
    while !survey.is_known() {
        let block = survey.blocks()[0][0];
        if survey.chain().len() == 2 && failures < 2 {
            failures += 1;
            assert_eq!(survey.refused(block, 4), SurveyStep::Part);
            continue;
        }
        survey.answered(block, &registers.read(block).expect("it is there"));
    }
    assert_eq!(survey.chain().len(), 4);
    let before = survey.blocks();
    for block in before.concat() {
        assert!((0..10).all(|_| survey.refused(block, 4) == SurveyStep::Part));
    }
    assert_eq!(survey.blocks(), before);
}

#[test]
fn a_device_that_fails_at_the_end_of_its_chain_is_read_as_far_as_that() {
    let registers = device(40_000);
    let mut survey = Survey::new(&wanted());
    for _ in 0..10 {
        let block = survey.blocks()[0][0];
        if survey.is_known() {
            break;
        }
        match survey.chain().len() {
            3 => drop(survey.refused(block, 4)),
            _ => drop(survey.answered(block, &registers.read(block).expect("it is there"))),
        }
    }
    assert!(survey.is_known() && survey.chain().len() == 3);
}

#[test]
fn storage_and_dc_inputs_of_an_older_inverter_are_read() {
    let dc = |n: u16| {
        let mut module = vec![0; 20];
        module[9..12].copy_from_slice(&[31 + n, 6_200 + n, 1_900 + n]);
        module
    };
    let inputs = [model(160, 48, &[("DCW_SF", &[0]), ("DCV_SF", &[0xffff]), ("N", &[2])])[..10].to_vec(), dc(0), dc(1)];
    let chain = [
        MARK.to_vec(),
        model(124, 24, &[("ChaState", &[615]), ("ChaState_SF", &[0xffff]), ("ChaSt", &[4])]),
        inputs.concat(),
        vec![END, 0],
    ];
    let mut registers = Registers::default();
    registers.lay(40_000, &chain.concat());
    let points = [
        point("soc", &[("ChaState", 124..=124, false)]),
        point("power_dc_2", &[("module[1].DCW", 160..=160, true)]),
        point("voltage_dc_1", &[("module[0].DCV", 160..=160, false)]),
        point("power_dc_3", &[("module[2].DCW", 160..=160, true)]),
    ];
    let mut survey = Survey::new(&points);
    let mut known = BTreeMap::new();
    for _ in 0..20 {
        for block in survey.blocks().concat() {
            let told = match registers.read(block) {
                Some(words) => survey.answered(block, &words),
                None => survey.refused(block, 2),
            };
            if let SurveyStep::Values(values) = told {
                known.extend(values);
            }
        }
    }
    let number = |ix| match known.get(&PointIx(ix)) {
        Some(Ok(Raw::Float(float))) => Some(*float),
        Some(Ok(Raw::Integer(integer))) => i32::try_from(*integer).ok().map(f64::from),
        _ => None,
    };
    assert_eq!([0, 1, 2, 3].map(number), [Some(61.5), Some(-1_901.0), Some(620.0), None], "{known:?}");
}
