//! The lines of a history that no client wrote and that are judged all the same: what a fault left standing, and what
//! a node uses.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::{Datum, Op, Record, Status};

/// Number of the process under which engines record what no client did. No client has it.
pub const EVENT_PROCESS: u64 = 2_000_000;

/// Where in a fault a [`FaultEvent`] stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Phase {
    /// The fault begins with it.
    Begin,
    /// It goes on.
    Act,
    /// It ends.
    End,
}

/// The structured `value` of a nemesis line: what was done, and how the whole cluster stands from then on, until the
/// next such line.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FaultEvent {
    /// The kind of fault, as on the command line.
    pub nemesis: String,
    /// Where in the fault this is.
    pub phase: Phase,
    /// What was done, for people.
    #[serde(default)]
    pub action: Option<String>,
    /// Regions that hear no other region while all their nodes run undisturbed (no pause, no disk or clock fault,
    /// nothing lost). `None`: not told, so nothing is judged.
    #[serde(default)]
    pub isolated: Option<Vec<String>>,
    /// Whether a majority of the regions hear each other both ways, undelayed, with all their nodes undisturbed.
    /// `None`: not told, so nothing is judged.
    #[serde(default)]
    pub majority: Option<bool>,
    /// The regions of that majority. Empty: not told which; then the regions that are not isolated are judged as one.
    #[serde(default)]
    pub connected: Vec<String>,
    /// The regions that are neither isolated nor of that majority: they are promised nothing but the truth.
    #[serde(default)]
    pub impaired: Vec<String>,
}

impl FaultEvent {
    /// The line of it: what it says may not hold yet from `from_ns` on, and holds from `until_ns` on. Both engines
    /// write one moment for both: before a fault strikes, after one has ended.
    #[must_use]
    pub fn record(&self, from_ns: u64, until_ns: u64) -> Record {
        let names = |regions: &[String]| regions.iter().cloned().map(Value::from).collect();
        let phase = match self.phase {
            Phase::Begin => "begin",
            Phase::Act => "act",
            Phase::End => "end",
        };
        let mut value = Map::new();
        value.insert("nemesis".into(), self.nemesis.clone().into());
        value.insert("phase".into(), phase.into());
        if let Some(action) = &self.action {
            value.insert("action".into(), action.clone().into());
        }
        if let Some(isolated) = &self.isolated {
            value.insert("isolated".into(), names(isolated));
        }
        if let Some(majority) = self.majority {
            value.insert("majority".into(), majority.into());
        }
        if !self.connected.is_empty() {
            value.insert("connected".into(), names(&self.connected));
        }
        if !self.impaired.is_empty() {
            value.insert("impaired".into(), names(&self.impaired));
        }
        Record {
            value: Some(Datum::Json(value.into())),
            complete_ns: Some(until_ns),
            status: Status::Ok,
            ..Record::event(EVENT_PROCESS, Op::Nemesis, from_ns)
        }
    }

    /// The event of a line; `None` where it is no nemesis line or one in words.
    ///
    /// # Errors
    /// Says what is wrong with a structured one.
    pub fn of(record: &Record) -> Result<Option<Self>, String> {
        match &record.value {
            Some(Datum::Json(value)) if record.op == Op::Nemesis && value.is_object() => {
                let event = Self::deserialize(value);
                event
                    .map(Some)
                    .map_err(|error| format!("a fault that cannot be read: {error}"))
            }
            _ => Ok(None),
        }
    }
}

/// The `value` of a usage line: what a node uses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
pub struct UsageEvent {
    /// Resident memory, bytes.
    pub memory: u64,
    /// Size of its data directory, bytes.
    pub disk: u64,
    /// Open files.
    #[serde(default)]
    pub files: u64,
}

impl UsageEvent {
    /// The line of it: measured at `at_ns` at `node`.
    #[must_use]
    pub fn record(&self, node: &str, at_ns: u64) -> Record {
        let mut value = Map::new();
        value.insert("memory".into(), self.memory.into());
        value.insert("disk".into(), self.disk.into());
        value.insert("files".into(), self.files.into());
        Record {
            node: Some(node.to_owned()),
            value: Some(Datum::Json(value.into())),
            complete_ns: Some(at_ns),
            status: Status::Ok,
            ..Record::event(EVENT_PROCESS, Op::Usage, at_ns)
        }
    }

    /// The measurement of a line; `None` where it is no usage line, or one of a node that did not answer.
    ///
    /// # Errors
    /// Says what is wrong with it.
    pub fn of(record: &Record) -> Result<Option<Self>, String> {
        match &record.value {
            _ if record.op != Op::Usage || record.status != Status::Ok => Ok(None),
            Some(Datum::Json(value)) => {
                let event = Self::deserialize(value);
                event
                    .map(Some)
                    .map_err(|error| format!("a measurement that cannot be read: {error}"))
            }
            _ => Err("a measurement without figures".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn faults_survive_a_round_trip_and_their_names_are_stable() {
        let event = FaultEvent {
            nemesis: "region-isolation".into(),
            phase: Phase::Begin,
            action: Some("cut eu".into()),
            isolated: Some(vec!["eu".into()]),
            majority: Some(true),
            connected: vec!["us".into(), "ap".into()],
            impaired: Vec::new(),
        };
        let record = event.record(5, 7);
        let line = serde_json::to_string(&record).unwrap();
        assert_eq!(
            line,
            r#"{"run":"","seed":0,"process":2000000,"op":"nemesis","value":{"action":"cut eu","connected":["us","ap"],"isolated":["eu"],"majority":true,"nemesis":"region-isolation","phase":"begin"},"invoke_ns":5,"complete_ns":7,"status":"ok"}"#
        );
        let read: Record = serde_json::from_str(&line).unwrap();
        assert_eq!(FaultEvent::of(&read), Ok(Some(event)));
        let bare = FaultEvent {
            nemesis: "calm".into(),
            phase: Phase::End,
            action: None,
            isolated: None,
            majority: None,
            connected: Vec::new(),
            impaired: Vec::new(),
        };
        assert_eq!(FaultEvent::of(&bare.record(1, 1)), Ok(Some(bare)));
    }

    #[test]
    fn words_are_no_event_and_a_broken_one_is_named() {
        let with = |value| Record {
            value: Some(value),
            ..Record::event(1, Op::Nemesis, 1)
        };
        assert_eq!(FaultEvent::of(&with(Datum::Text("Heal".into()))), Ok(None));
        let listed = Datum::Members(vec!["cut".into()]);
        assert_eq!(FaultEvent::of(&with(listed)), Ok(None));
        for broken in [
            json!({"phase": "begin"}),
            json!({"nemesis": "x", "phase": "middle"}),
            json!({"nemesis": "x", "phase": "act", "isolated": "eu"}),
            json!({"nemesis": "x", "phase": "act", "majority": "yes"}),
        ] {
            let error = FaultEvent::of(&with(Datum::Json(broken))).unwrap_err();
            assert!(error.contains("a fault that cannot be read"), "{error}");
        }
    }

    #[test]
    fn measurements_survive_a_round_trip() {
        let event = UsageEvent {
            memory: 1 << 20,
            disk: 5,
            files: 30,
        };
        let line = serde_json::to_string(&event.record("eu-1", 9)).unwrap();
        let mut read: Record = serde_json::from_str(&line).unwrap();
        assert_eq!(read.node.as_deref(), Some("eu-1"));
        assert_eq!(UsageEvent::of(&read), Ok(Some(event)));
        read.value = None;
        assert!(
            UsageEvent::of(&read)
                .unwrap_err()
                .contains("without figures")
        );
        read.status = Status::Fail;
        assert_eq!(UsageEvent::of(&read), Ok(None));
    }
}
