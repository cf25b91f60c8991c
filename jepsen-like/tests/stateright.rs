//! The linearizability checker agrees with one that shares nothing with it: stateright's tester, on random histories
//! of one register, some of which have an order and some of which have none.

#![allow(clippy::unwrap_used, reason = "a test that can not go on fails")]

use hansa_jepsen::checker::{Verdict, linearizable};
use hansa_jepsen::history::{
    CONDITION_FAILED, Datum, Expect, History, Level, Op, Record, Status, Swap,
};
use hansa_jepsen::random::Random;
use stateright::semantics::register::{Register, RegisterOp, RegisterRet};
use stateright::semantics::{ConsistencyTester, LinearizabilityTester, SequentialSpec};

/// Histories for each of the two registers.
const HISTORIES: u64 = 5_000;
/// Most operations in one: stateright tries every order.
const OPERATIONS: u64 = 8;
/// Processes with an operation under way at once.
const AT_ONCE: u64 = 4;

#[derive(Clone, Debug, PartialEq)]
enum Call {
    Read,
    Write(u64),
    /// Stores the second where the first is.
    Swap(Option<u64>, u64),
}

#[derive(Clone, Debug, PartialEq)]
enum Answer {
    Read(Option<u64>),
    Written,
    Swapped(bool),
}

/// The register with compare-and-set, as plainly as it can be said.
#[derive(Clone, Debug, Default)]
struct Cell(Option<u64>);

impl SequentialSpec for Cell {
    type Op = Call;
    type Ret = Answer;

    fn invoke(&mut self, call: &Call) -> Answer {
        match call {
            Call::Read => Answer::Read(self.0),
            Call::Write(value) => {
                self.0 = Some(*value);
                Answer::Written
            }
            Call::Swap(expected, new) => {
                let holds = self.0 == *expected;
                if holds {
                    self.0 = Some(*new);
                }
                Answer::Swapped(holds)
            }
        }
    }
}

/// What happens at a moment; moments are the positions in a script.
#[derive(Clone, Debug)]
enum Step {
    Invoke(usize, Call),
    Return(usize, Answer),
}

/// An operation under way: who, what, and the answer once it took effect.
struct Open {
    process: usize,
    call: Call,
    answer: Option<Answer>,
}

/// Operations that take effect one after the other while others are under way, and answers that sometimes lie.
/// Some are never answered, whether they took effect or not.
fn script(random: &mut Random, swaps: bool) -> Vec<Step> {
    let mut cell = Cell::default();
    let (mut steps, mut open) = (Vec::new(), Vec::<Open>::new());
    let (mut processes, mut written) = (0, 0);
    let wanted = random.between(3, OPERATIONS);
    let lies = if random.chance(300) { 0 } else { 400 };
    let mut made = 0;
    let mut idle = Vec::new();
    while made < wanted || !open.is_empty() {
        let busy = open.len() as u64;
        if made < wanted && busy < AT_ONCE && random.chance(400) {
            made += 1;
            written += 1;
            let expected = Some(random.below(written)).filter(|_| random.chance(700));
            let call = match random.below(if swaps { 3 } else { 2 }) {
                0 => Call::Read,
                1 => Call::Write(written),
                _ => Call::Swap(cell.0.filter(|_| random.chance(600)).or(expected), written),
            };
            let process = idle.pop().unwrap_or_else(|| {
                processes += 1;
                processes
            });
            steps.push(Step::Invoke(process, call.clone()));
            open.push(Open {
                process,
                call,
                answer: None,
            });
        }
        if open.is_empty() {
            continue;
        }
        let at = random.below(open.len() as u64) as usize;
        let operation = &mut open[at];
        let Some(answer) = operation.answer.clone() else {
            if random.chance(50) {
                open.swap_remove(at);
                continue;
            }
            operation.answer = Some(cell.invoke(&operation.call));
            continue;
        };
        let Open { process, .. } = open.swap_remove(at);
        // One that is not answered ends its process.
        if random.chance(900) {
            let answer = if random.chance(lies) {
                lie(random, answer, written)
            } else {
                answer
            };
            steps.push(Step::Return(process, answer));
            idle.push(process);
        }
    }
    steps
}

fn lie(random: &mut Random, answer: Answer, written: u64) -> Answer {
    match answer {
        Answer::Read(_) => Answer::Read(Some(random.below(written + 1)).filter(|value| *value > 0)),
        Answer::Written => Answer::Written,
        Answer::Swapped(did) => Answer::Swapped(!did),
    }
}

fn name(value: u64) -> String {
    format!("v{value}")
}

/// The script as we record it.
fn history(steps: &[Step]) -> History {
    let mut records: Vec<Record> = Vec::new();
    for (moment, step) in (1u64..).zip(steps) {
        match step {
            Step::Invoke(process, call) => {
                let (op, value) = match call {
                    Call::Read => (Op::Get, None),
                    Call::Write(value) => (Op::Put, Some(Datum::Text(name(*value)))),
                    Call::Swap(expected, new) => {
                        let expect = expected.map_or(Expect::Absent, |v| Expect::Value(name(v)));
                        (
                            Op::Cas,
                            Some(Datum::Swap(Swap {
                                expect,
                                new: name(*new),
                            })),
                        )
                    }
                };
                let mut record = Record::invoked(*process as u64, op, "t/k", Level::Strong, moment);
                record.value = value;
                records.push(record);
            }
            Step::Return(process, answer) => {
                let mut all = records.iter_mut();
                let record = all
                    .rfind(|record| record.process == *process as u64)
                    .unwrap();
                record.complete_ns = Some(moment);
                record.status = Status::Ok;
                match answer {
                    Answer::Read(value) => record.value = value.map(|v| Datum::Text(name(v))),
                    Answer::Swapped(false) => {
                        record.status = Status::Fail;
                        record.error = Some(CONDITION_FAILED.to_owned());
                    }
                    Answer::Written | Answer::Swapped(true) => {}
                }
            }
        }
    }
    History { records }
}

/// What stateright says of the script, its words made by `call` and `answer`.
fn stateright<S>(
    register: S,
    steps: &[Step],
    call: impl Fn(&Call) -> S::Op,
    answer: impl Fn(&Answer) -> S::Ret,
) -> bool
where
    S: SequentialSpec + Clone,
    S::Op: Clone + std::fmt::Debug,
    S::Ret: Clone + std::fmt::Debug,
{
    let mut tester = LinearizabilityTester::<usize, S>::new(register);
    for step in steps {
        match step {
            Step::Invoke(process, what) => tester.on_invoke(*process, call(what)),
            Step::Return(process, what) => tester.on_return(*process, answer(what)),
        }
        .unwrap();
    }
    tester.is_consistent()
}

fn agree(seed: u64, swaps: bool, theirs: impl Fn(&[Step]) -> bool) {
    let mut random = Random::new(seed);
    let mut good = 0;
    for round in 0..HISTORIES {
        let steps = script(&mut random, swaps);
        let ours = match linearizable::check(&history(&steps)) {
            Verdict::Ok => true,
            Verdict::Violation(_) => false,
            Verdict::Unknown { why } => panic!("round {round}: {why}"),
        };
        assert_eq!(ours, theirs(&steps), "seed {seed} round {round}: {steps:?}");
        good += u64::from(ours);
    }
    println!("{good} of {HISTORIES} have an order");
    let mixed = HISTORIES / 5..HISTORIES * 4 / 5;
    assert!(
        mixed.contains(&good),
        "{good} of {HISTORIES}: too much alike to tell anything"
    );
}

#[test]
fn registers_that_are_read_and_written() {
    agree(1, false, |steps| {
        let call = |call: &Call| match call {
            Call::Write(value) => RegisterOp::Write(Some(*value)),
            _ => RegisterOp::Read,
        };
        let answer = |answer: &Answer| match answer {
            Answer::Read(value) => RegisterRet::ReadOk(*value),
            _ => RegisterRet::WriteOk,
        };
        stateright(Register(None), steps, call, answer)
    });
}

#[test]
fn registers_that_are_compared_and_set() {
    agree(2, true, |steps| {
        stateright(Cell::default(), steps, Call::clone, Answer::clone)
    });
}
