//! The contract, cell by cell: every (write level, read level) pair, with what is promised
//! and, where there is one, an anomaly that is permitted.
//!
//! The table in `docs/consistency-model.md` names these tests. The commands stand in
//! `support/play.rs`; region a is 45 ms from b and 75 ms from c.

#[cfg(test)]
mod contended;
#[cfg(test)]
mod support;

#[cfg(test)]
mod matrix {
    use hansa_consistency::request::{Level, Reason};

    use super::support::Play;

    /// Runs each command and holds what it shows against the words wanted: all of them must appear.
    fn play(story: &[(&str, &str)]) {
        let mut play = Play::new();
        for (at, (command, wanted)) in story.iter().enumerate() {
            let shown = play.run(command);
            for part in wanted.split(" & ") {
                assert!(
                    shown.contains(part) && (shown.is_empty() == wanted.is_empty()),
                    "step {at}, {command}: {shown:?} does not show {part:?}"
                );
            }
        }
    }

    /// Promised: durable in its region when acknowledged, visible there at once, and everywhere in the
    /// end; all views converge. Permitted: another region shows the past meanwhile.
    #[test]
    fn eventual_write_eventual_read() {
        play(&[
            ("a put registers/k v1", "written & durable=a"),
            ("a get registers/k", "value v1 & took=0ms"),
            ("b get registers/k", "nothing"),
            ("tick 2s", ""),
            ("b get registers/k", "value v1"),
            ("c get registers/k", "value v1"),
            ("digests", "equal"),
        ]);
    }

    /// Promised: a session that kept the token of an eventual write reads it in every region.
    /// Permitted: without the token, a session that moves to another region goes back in time.
    #[test]
    fn eventual_write_session_read() {
        play(&[
            ("a put registers/k v1 level=eventual session=s", "written"),
            ("a get registers/k level=eventual", "value v1"),
            ("b get registers/k level=session session=other", "nothing"),
            ("b get registers/k level=session session=s", "value v1"),
            ("c get registers/k level=session session=s", "value v1"),
        ]);
    }

    /// Promised: once a strong read has shown an eventual write, every later strong read shows it or a
    /// successor, from every region. Permitted: a strong read whose quorum does not include the writer's
    /// region misses a write that is acknowledged there.
    #[test]
    fn eventual_write_strong_read() {
        play(&[
            ("hold append,entries a>*", ""),
            ("a put registers/k v1 level=eventual", "written"),
            ("down a-b", ""),
            ("b get registers/k level=strong", "nothing & regions=b,c"),
            (
                "c get registers/k level=strong",
                "value v1 & regions=a,c & absorbed",
            ),
            ("b get registers/k level=strong", "value v1 & regions=b,c"),
            ("isolate a", ""),
            ("b get registers/k level=strong", "value v1 & regions=b,c"),
        ]);
    }

    /// Promised: as for eventual writes. Permitted: a reader without a session sees an effect before its
    /// cause.
    #[test]
    fn session_write_eventual_read() {
        play(&[
            ("hold append,entries a>c", ""),
            (
                "a put registers/cause v1 level=session session=s",
                "written",
            ),
            ("b get registers/cause level=session session=s", "value v1"),
            (
                "b put registers/effect v2 level=session session=s",
                "written",
            ),
            ("tick 110ms", ""),
            ("c get registers/effect level=eventual", "value v2"),
            ("c get registers/cause level=eventual", "nothing"),
            ("release", ""),
            ("tick 3s", ""),
            ("c get registers/cause level=eventual", "value v1"),
            ("digests", "equal"),
        ]);
    }

    /// Promised: read your writes, monotonic reads, monotonic writes, and writes follow reads, in every
    /// region. Permitted: another session does not see the write yet.
    #[test]
    fn session_write_session_read() {
        play(&[
            ("a put registers/k v1 level=session session=s", "written"),
            // Read your writes.
            ("b get registers/k level=session session=s", "value v1"),
            // Monotonic writes: the second write wins, though it was made elsewhere and c's clock is behind.
            ("clock c -400ms", ""),
            ("c put registers/k v2 level=session session=s", "written"),
            ("a get registers/k level=session session=other", "value v1"),
            ("a get registers/k level=session session=s", "value v2"),
            // Monotonic reads: who has read v2 never reads v1 again.
            ("b get registers/k level=eventual", "value v1"),
            ("a get registers/k level=session session=reader", "value v2"),
            ("b get registers/k level=session session=reader", "value v2"),
            // Writes follow reads: what the reader writes has v2 as its past for everybody.
            (
                "b put registers/k v3 level=session session=reader",
                "written",
            ),
            ("tick 3s", ""),
            ("a get registers/k level=eventual", "value v3"),
            ("c get registers/k level=eventual", "value v3"),
        ]);
    }

    /// Promised: the session's own strong reads always show its writes: they wait for the token, then
    /// absorb. Permitted: a strong read without the token whose quorum lacks the write misses it.
    #[test]
    fn session_write_strong_read() {
        play(&[
            ("hold append,entries a>*", ""),
            ("a put registers/k v1 level=session session=s", "written"),
            ("down a-b", ""),
            ("b get registers/k level=strong", "nothing & regions=b,c"),
            (
                "b get registers/k level=strong session=s within=1s",
                "SESSION_UNAVAILABLE & applied=no",
            ),
            ("release", ""),
            (
                "b get registers/k level=strong session=s",
                "value v1 & absorbed",
            ),
            ("c get registers/k level=strong", "value v1"),
        ]);
    }

    /// Promised: visible in the writer's region when acknowledged, everywhere in the end, and no replica
    /// that showed it shows an older value again. Permitted: another region shows the past meanwhile.
    #[test]
    fn strong_put_eventual_read() {
        play(&[
            (
                "a put registers/k v1 level=strong",
                "written & regions=a,b & trips=1",
            ),
            ("a get registers/k", "value v1 & took=0ms"),
            ("c get registers/k", "nothing"),
            ("tick 1s", ""),
            ("c get registers/k", "value v1"),
            ("digests", "equal"),
        ]);
    }

    /// Promised: the session reads its strong write in every region. Permitted: another session does not
    /// see it yet.
    #[test]
    fn strong_put_session_read() {
        play(&[
            ("a put registers/k v1 level=strong session=s", "written"),
            ("c get registers/k level=session session=other", "nothing"),
            ("c get registers/k level=session session=s", "value v1"),
            ("b get registers/k level=session session=s", "value v1"),
        ]);
    }

    /// Promised: linearizable. A strong read in any region that begins after the put was acknowledged
    /// shows it or a later one. Permitted: nothing else; without a majority the read is refused.
    #[test]
    fn strong_put_strong_read() {
        play(&[
            ("a put registers/k v1 level=strong", "written"),
            ("c get registers/k level=strong", "value v1"),
            ("b put registers/k v2 level=strong", "written"),
            ("a get registers/k level=strong", "value v2"),
            ("c get registers/k level=strong", "value v2"),
            ("isolate c", ""),
            ("a put registers/k v3 level=strong", "written"),
            (
                "c get registers/k level=strong",
                "QUORUM_UNREACHABLE & applied=no",
            ),
            ("b get registers/k level=strong", "value v3"),
        ]);
    }

    /// Promised: as for a strong put. Permitted: an acknowledged eventual write that the condition could
    /// not see is overwritten, on all replicas alike.
    #[test]
    fn strong_cas_eventual_read() {
        play(&[
            ("isolate c", ""),
            ("c put registers/k lost level=eventual", "written"),
            ("c get registers/k", "value lost"),
            ("a cas registers/k absent won level=strong", "written"),
            ("a get registers/k", "value won & took=0ms"),
            ("heal", ""),
            ("tick 3s", ""),
            ("c get registers/k", "value won"),
            ("digests", "equal"),
        ]);
    }

    /// Promised: the session sees its compare-and-set in every region, and a refused one teaches it what
    /// refused it. Permitted: another session does not see it yet.
    #[test]
    fn strong_cas_session_read() {
        play(&[
            (
                "a cas registers/k absent v1 level=strong session=s",
                "written",
            ),
            ("c get registers/k level=session session=other", "nothing"),
            ("c get registers/k level=session session=s", "value v1"),
            ("hold append,entries a>b", ""),
            ("a put registers/k v2 level=strong", "written"),
            (
                "c cas registers/k value:v1 v3 level=strong session=t",
                "CONDITION_FAILED & applied=no",
            ),
            ("c get registers/k level=session session=t", "value v2"),
            ("b get registers/k level=session session=t", "value v2"),
        ]);
    }

    /// Promised: linearizable; of two compare-and-sets on one version exactly one succeeds, the other is
    /// a linearized read. Permitted: nothing else.
    #[test]
    fn strong_cas_strong_read() {
        play(&[
            ("a put registers/k v1 level=strong etag=e", "written"),
            ("a cas registers/k etag:e v2 level=strong", "written"),
            (
                "b cas registers/k etag:e v3 level=strong etag=f",
                "CONDITION_FAILED & applied=no",
            ),
            ("c get registers/k level=strong", "value v2"),
            ("c cas registers/k etag:f v3 level=strong", "written"),
            ("b get registers/k level=strong", "value v3"),
            // An eventual write that the quorum knows makes the condition fail: it is absorbed first.
            ("a put registers/k v4 level=eventual", "written"),
            (
                "a cas registers/k value:v3 v5 level=strong",
                "CONDITION_FAILED",
            ),
            ("b get registers/k level=strong", "value v4"),
        ]);
    }

    /// The document lists every reason for which a request is refused, and every cell by its test.
    #[test]
    fn the_document_names_every_reason_and_every_cell() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
        let document =
            std::fs::read_to_string(folder.join("../docs/consistency-model.md")).unwrap();
        for reason in Reason::ALL {
            let row = format!("\n| `{}` |", reason.name());
            assert!(document.contains(&row), "{} is missing", reason.name());
        }
        for write in [
            "eventual_write",
            "session_write",
            "strong_put",
            "strong_cas",
        ] {
            for level in [Level::Eventual, Level::Session, Level::Strong] {
                let cell = format!("{write}_{}_read", level.name());
                assert!(document.contains(&cell), "{cell} is missing");
                assert!(include_str!("matrix.rs").contains(&format!("fn {cell}()")));
            }
        }
    }
}
