//! What a session has seen: one clock value per region (the causal [`Context`]),
//! and its portable form, the [`SessionToken`].
//!
//! A replica may serve a session when, for every region, all entries of that
//! region up to the token's value are applied. The size depends on the number of
//! regions alone, never on nodes, keys or shards touched. Pointwise maximum merges
//! two contexts, so tokens can be passed between services.
//!
//! Token format, version 1: version byte | cluster u32 | count u8 | (region u8)* |
//! newest value u64 | (newest - value) varint per region | check u32; at most
//! [`TOKEN_BYTES_MAX`] bytes for [`REGIONS_MAX`] regions. The check is keyed by the
//! cluster: it detects damage and mix-ups, it is no secret.

use bytes::Bytes;

use crate::clock::{ClockAhead, Hlc, Now, check_ahead};
use crate::codec::{Decoded, Decoder, Encode, Encoder};
use crate::key::{ClusterId, RegionId};
use crate::limits::REGIONS_MAX;

/// Longest token, bytes.
pub const TOKEN_BYTES_MAX: usize = 160;

const TOKEN_VERSION: u8 = 1;

/// One clock value per region, sorted by region; an absent region counts as zero.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct Context(Vec<(RegionId, Hlc)>);

impl Context {
    /// Having seen nothing.
    pub const fn new() -> Context {
        Context(Vec::new())
    }

    /// Having seen one region up to a value.
    pub fn of(region: RegionId, hlc: Hlc) -> Context {
        Context(vec![(region, hlc)])
    }

    /// Whether nothing was seen.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value of one region.
    pub fn get(&self, region: RegionId) -> Hlc {
        match self.0.binary_search_by_key(&region, |e| e.0) {
            Ok(at) => self.0[at].1,
            Err(_) => Hlc::ZERO,
        }
    }

    /// Raises one region's value.
    pub fn raise(&mut self, region: RegionId, hlc: Hlc) {
        match self.0.binary_search_by_key(&region, |e| e.0) {
            Ok(at) => self.0[at].1 = self.0[at].1.max(hlc),
            Err(_) if hlc == Hlc::ZERO => {}
            Err(at) => self.0.insert(at, (region, hlc)),
        }
    }

    /// Pointwise maximum.
    pub fn join(&mut self, other: &Context) {
        for &(region, hlc) in &other.0 {
            self.raise(region, hlc);
        }
    }

    /// The newest value of any region.
    pub fn newest(&self) -> Hlc {
        self.0.iter().map(|e| e.1).max().unwrap_or(Hlc::ZERO)
    }

    /// The regions and their values, in order of regions.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = (RegionId, Hlc)> + '_ {
        self.0.iter().copied()
    }
}

impl Encode for Context {
    fn encode(&self, out: &mut Encoder) {
        out.list(self.0.iter().map(|(r, h)| (u64::from(r.0), *h)));
    }
    fn decode(input: &mut Decoder) -> Decoded<Context> {
        let region = |number| u8::try_from(number).ok().map(RegionId);
        Ok(Context(input.map("context", region)?))
    }
}

/// Why a token was refused. Nothing was applied.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum TokenError {
    /// Not a token, or damaged on its way.
    #[error("the session token is malformed or damaged")]
    Malformed,
    /// Made by a newer version.
    #[error("the session token has version {found}, this node reads up to {TOKEN_VERSION}")]
    NewerVersion {
        /// The version found.
        found: u8,
    },
    /// Made by another cluster.
    #[error("the session token belongs to another cluster")]
    OtherCluster,
    /// Names a moment that has not come yet.
    #[error("the session token names {0}")]
    FromFuture(#[from] ClockAhead),
}

/// A context as clients carry it.
#[derive(Clone, PartialEq, Eq, Debug, Default)]
pub struct SessionToken;

impl SessionToken {
    /// The token of a context. An empty context has an empty token.
    pub fn encode(cluster: ClusterId, context: &Context) -> Bytes {
        if context.is_empty() {
            return Bytes::new();
        }
        let newest = context.newest();
        let mut out = Encoder::default();
        out.u8(TOKEN_VERSION);
        fixed(&mut out, cluster.0, 4);
        out.u8(context.0.len() as u8);
        for (region, _) in context.iter() {
            out.u8(region.0);
        }
        fixed(&mut out, newest.0, 8);
        for (_, hlc) in context.iter() {
            out.number(newest.0 - hlc.0);
        }
        let body = out.finish();
        let mut token = body.to_vec();
        token.extend_from_slice(&check(cluster, &body));
        Bytes::from(token)
    }

    /// Takes a client's token back.
    ///
    /// # Errors
    /// [`TokenError`] when it is damaged, newer, another cluster's or from the future.
    pub fn decode(cluster: ClusterId, now: Now, token: &Bytes) -> Result<Context, TokenError> {
        if token.is_empty() {
            return Ok(Context::new());
        }
        match token[0] {
            TOKEN_VERSION => {}
            found if found > TOKEN_VERSION && found < 0x20 => {
                return Err(TokenError::NewerVersion { found });
            }
            _ => return Err(TokenError::Malformed),
        }
        if token.len() < 5 + 4 || token.len() > TOKEN_BYTES_MAX {
            return Err(TokenError::Malformed);
        }
        if token[1..5] != cluster.0.to_be_bytes()[4..] {
            return Err(TokenError::OtherCluster);
        }
        let body = token.slice(..token.len() - 4);
        if token[token.len() - 4..] != check(cluster, &body) {
            return Err(TokenError::Malformed);
        }
        let context = fields(body.slice(5..)).ok_or(TokenError::Malformed)?;
        check_ahead(now, context.newest())?;
        Ok(context)
    }
}

fn fields(body: Bytes) -> Option<Context> {
    let mut input = Decoder::new(&body);
    let count = usize::from(input.u8("count").ok()?);
    if count > REGIONS_MAX {
        return None;
    }
    let regions: Vec<u8> = (0..count)
        .map(|_| input.u8("region").ok())
        .collect::<Option<_>>()?;
    let mut newest = 0;
    for _ in 0..8 {
        newest = newest << 8 | u64::from(input.u8("value").ok()?);
    }
    let mut context = Context::new();
    for region in regions {
        let behind = input.number("value").ok()?;
        context.raise(RegionId(region), Hlc(newest.checked_sub(behind)?));
    }
    input.is_empty().then_some(context)
}

fn fixed(out: &mut Encoder, value: u64, bytes: usize) {
    for byte in &value.to_be_bytes()[8 - bytes..] {
        out.u8(*byte);
    }
}

fn check(cluster: ClusterId, body: &[u8]) -> [u8; 4] {
    (xxhash_rust::xxh3::xxh3_64_with_seed(body, cluster.0) as u32).to_be_bytes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HERE: ClusterId = ClusterId(77);

    fn contexts() -> impl Strategy<Value = Context> {
        proptest::collection::vec((0u8..16, 1u64..1 << 60), 0..16).prop_map(|pairs| {
            let mut context = Context::new();
            for (region, hlc) in pairs {
                context.raise(RegionId(region), Hlc(hlc));
            }
            context
        })
    }

    fn late() -> Now {
        Now {
            wall_ms: 1 << 60,
            ..Now::default()
        }
    }

    proptest! {
        #[test]
        fn tokens_come_back_and_are_small(context in contexts()) {
            let token = SessionToken::encode(HERE, &context);
            prop_assert!(token.len() <= TOKEN_BYTES_MAX);
            prop_assert_eq!(SessionToken::decode(HERE, late(), &token), Ok(context.clone()));
            prop_assert_eq!(Context::from_record(&context.to_record()), Ok(context));
        }

        #[test]
        fn join_is_a_least_upper_bound(a in contexts(), b in contexts(), c in contexts()) {
            let join = |x: &Context, y: &Context| { let mut j = x.clone(); j.join(y); j };
            prop_assert_eq!(join(&a, &b), join(&b, &a));
            prop_assert_eq!(join(&join(&a, &b), &c), join(&a, &join(&b, &c)));
            prop_assert_eq!(join(&a, &a), a);
        }

        #[test]
        fn damage_is_noticed(context in contexts(), at in any::<usize>(), bit in 0u8..8) {
            prop_assume!(!context.is_empty());
            let mut token = SessionToken::encode(HERE, &context).to_vec();
            let at = at % token.len();
            token[at] ^= 1 << bit;
            prop_assert!(SessionToken::decode(HERE, late(), &Bytes::from(token)).is_err());
        }

        #[test]
        fn noise_is_refused(bytes in proptest::collection::vec(any::<u8>(), 1..200)) {
            let _ = SessionToken::decode(HERE, late(), &Bytes::from(bytes));
        }
    }

    #[test]
    fn only_the_one_encoding_of_a_context_is_read() {
        let encoded = |pairs: &[(u64, u64)]| {
            let mut out = Encoder::record();
            out.list(pairs.iter().map(|(region, hlc)| (*region, Hlc(*hlc))));
            Context::from_record(&out.finish())
        };
        assert!(encoded(&[(1, 5), (2, 3)]).is_ok());
        for wrong in [[(256, 5), (257, 5)], [(2, 3), (1, 5)], [(1, 3), (1, 5)]] {
            assert!(encoded(&wrong).is_err(), "{wrong:?}");
        }
    }

    #[test]
    fn other_clusters_and_the_future_are_refused() {
        let context = Context::of(RegionId(1), Hlc::from_ms(700_000));
        let token = SessionToken::encode(HERE, &context);
        assert_eq!(
            SessionToken::decode(ClusterId(78), late(), &token),
            Err(TokenError::OtherCluster)
        );
        let early = Now {
            wall_ms: 100_000,
            ..Now::default()
        };
        assert_eq!(
            SessionToken::decode(HERE, early, &token),
            Err(TokenError::FromFuture(ClockAhead { ahead_ms: 600_000 }))
        );
    }
}
