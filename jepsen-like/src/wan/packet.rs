//! The little of IPv4 and TCP that the WAN has to understand (RFC 791, RFC 9293).

use std::net::{Ipv4Addr, SocketAddrV4};

const IP_HEADER: usize = 20;
const TCP_HEADER: usize = 20;
const PROTOCOL_TCP: u8 = 6;

const FIN: u8 = 1;
const SYN: u8 = 2;
const RST: u8 = 4;
const ACK: u8 = 16;

/// From where to where a TCP connection's packets go.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Flow {
    pub(super) source: SocketAddrV4,
    pub(super) destination: SocketAddrV4,
}

/// The header of a TCP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Segment {
    pub(super) flow: Flow,
    pub(super) sequence: u32,
    acknowledged: u32,
    flags: u8,
    /// What it takes of the sequence: its bytes, one for SYN, one for FIN.
    length: u32,
}

/// Source and destination of an IPv4 packet; `None` for anything else.
pub(super) fn addresses(packet: &[u8]) -> Option<(Ipv4Addr, Ipv4Addr)> {
    if packet.first()? >> 4 != 4 {
        return None;
    }
    let source: [u8; 4] = packet.get(12..16)?.try_into().ok()?;
    let destination: [u8; 4] = packet.get(16..20)?.try_into().ok()?;
    Some((source.into(), destination.into()))
}

impl Segment {
    /// The header of a packet; `None` when it is not TCP, or a fragment without the header.
    pub(super) fn of(packet: &[u8]) -> Option<Segment> {
        let (source, destination) = addresses(packet)?;
        let ip_header = usize::from(packet[0] & 0xf) * 4;
        let fragment = u16::from_be_bytes(packet.get(6..8)?.try_into().ok()?) & 0x1fff;
        if *packet.get(9)? != PROTOCOL_TCP || fragment != 0 {
            return None;
        }
        let total = u16::from_be_bytes(packet.get(2..4)?.try_into().ok()?);
        let tcp = packet.get(ip_header..)?;
        let port = |at: usize| Some(u16::from_be_bytes(tcp.get(at..at + 2)?.try_into().ok()?));
        let number = |at: usize| Some(u32::from_be_bytes(tcp.get(at..at + 4)?.try_into().ok()?));
        let flags = *tcp.get(13)?;
        let headers = ip_header + usize::from(tcp.get(12)? >> 4) * 4;
        let bytes = usize::from(total).checked_sub(headers)?;
        let ends = u32::from(flags & SYN != 0) + u32::from(flags & FIN != 0);
        Some(Segment {
            flow: Flow {
                source: SocketAddrV4::new(source, port(0)?),
                destination: SocketAddrV4::new(destination, port(2)?),
            },
            sequence: number(4)?,
            acknowledged: number(8)?,
            flags,
            length: bytes as u32 + ends,
        })
    }

    /// Whether it is the first of its direction of a connection.
    pub(super) fn opens(&self) -> bool {
        self.flags & SYN != 0
    }

    /// Whether it is a reset itself.
    pub(super) fn resets(&self) -> bool {
        self.flags & RST != 0
    }

    /// What tells the receiver that the connection is gone, in the sender's name; `None` when the receiver knows of
    /// none yet.
    pub(super) fn reset_for_receiver(&self) -> Option<Vec<u8>> {
        let acknowledges = self.flags & ACK != 0;
        let header = (self.sequence, self.acknowledged, RST | ACK);
        acknowledges.then(|| tcp_packet(self.flow, header))
    }

    /// What tells the sender that the connection is gone, in the receiver's name.
    pub(super) fn reset_for_sender(&self) -> Vec<u8> {
        let back = Flow {
            source: self.flow.destination,
            destination: self.flow.source,
        };
        // A reset is taken only with exactly the sequence that its receiver expects.
        let header = if self.flags & ACK != 0 {
            (self.acknowledged, 0, RST)
        } else {
            (0, self.sequence.wrapping_add(self.length), RST | ACK)
        };
        tcp_packet(back, header)
    }
}

/// A packet without bytes: sequence, acknowledged sequence, flags.
fn tcp_packet(flow: Flow, (sequence, acknowledged, flags): (u32, u32, u8)) -> Vec<u8> {
    let total = IP_HEADER + TCP_HEADER;
    let mut ip = vec![0x45, 0, 0, total as u8, 0, 0, 0, 0, 64, PROTOCOL_TCP, 0, 0];
    ip.extend(flow.source.ip().octets());
    ip.extend(flow.destination.ip().octets());
    let sum = checksum(&ip, 0);
    ip[10..12].copy_from_slice(&sum.to_be_bytes());

    let mut tcp = Vec::with_capacity(TCP_HEADER);
    tcp.extend(flow.source.port().to_be_bytes());
    tcp.extend(flow.destination.port().to_be_bytes());
    tcp.extend(sequence.to_be_bytes());
    tcp.extend(acknowledged.to_be_bytes());
    tcp.extend([(TCP_HEADER as u8 / 4) << 4, flags, 0, 0, 0, 0, 0, 0]);
    // The sum of TCP covers the addresses, the protocol and the length too.
    let pseudo = sum_of(&ip[12..20]) + u32::from(PROTOCOL_TCP) + TCP_HEADER as u32;
    let sum = checksum(&tcp, pseudo);
    tcp[16..18].copy_from_slice(&sum.to_be_bytes());
    ip.extend(tcp);
    ip
}

/// The checksum of the internet (RFC 1071) over bytes and what was summed up before.
fn checksum(bytes: &[u8], before: u32) -> u16 {
    let mut sum = sum_of(bytes) + before;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Headers only: the sum of so few words fits.
fn sum_of(bytes: &[u8]) -> u32 {
    let words = bytes.chunks_exact(2);
    words
        .map(|word| u32::from(u16::from_be_bytes([word[0], word[1]])))
        .sum()
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// A TCP packet with these bytes more.
    pub(in crate::wan) fn tcp(flow: Flow, sequence: u32, flags: u8, bytes: usize) -> Vec<u8> {
        let mut packet = tcp_packet(flow, (sequence, 900, flags));
        packet.resize(packet.len() + bytes, 7);
        let total = packet.len() as u16;
        packet[2..4].copy_from_slice(&total.to_be_bytes());
        packet
    }

    pub(in crate::wan) const SYN_FLAG: u8 = SYN;
    pub(in crate::wan) const ACK_FLAG: u8 = ACK;

    fn flow() -> Flow {
        Flow {
            source: "10.1.2.3:1000".parse().unwrap(),
            destination: "10.4.5.6:80".parse().unwrap(),
        }
    }

    #[test]
    fn the_checksum_is_that_of_the_example_in_rfc_1071() {
        let bytes = [0x00, 0x01, 0xf2, 0x03, 0xf4, 0xf5, 0xf6, 0xf7];
        assert_eq!(checksum(&bytes, 0), !0xddf2);
    }

    #[test]
    fn a_made_packet_has_right_sums() {
        let packet = tcp_packet(flow(), (1, 2, RST));
        // A header with its right sum in it sums up to nothing.
        assert_eq!(checksum(&packet[..20], 0), 0);
        let pseudo = sum_of(&packet[12..20]) + 6 + 20;
        assert_eq!(checksum(&packet[20..], pseudo), 0);
    }

    #[test]
    fn a_segment_is_read_as_it_was_written() {
        let segment = Segment::of(&tcp(flow(), 500, ACK, 30)).unwrap();
        assert_eq!((segment.flow, segment.sequence), (flow(), 500));
        assert_eq!((segment.acknowledged, segment.length), (900, 30));
        assert!(!segment.opens() && !segment.resets());
        assert!(Segment::of(&tcp(flow(), 5, SYN, 0)).unwrap().opens());
    }

    #[test]
    fn resets_have_the_sequence_that_each_end_expects() {
        let data = Segment::of(&tcp(flow(), 500, ACK, 30)).unwrap();
        let receiver = Segment::of(&data.reset_for_receiver().unwrap()).unwrap();
        assert_eq!((receiver.flow, receiver.sequence), (flow(), 500));
        let sender = Segment::of(&data.reset_for_sender()).unwrap();
        assert_eq!(
            (sender.flow.source, sender.sequence),
            (flow().destination, 900)
        );
        assert!(receiver.resets() && sender.resets());
        let syn = Segment::of(&tcp(flow(), 500, SYN, 0)).unwrap();
        assert_eq!(syn.reset_for_receiver(), None);
        let refused = Segment::of(&syn.reset_for_sender()).unwrap();
        assert_eq!((refused.acknowledged, refused.flags), (501, RST | ACK));
    }

    #[test]
    fn what_is_not_understood_is_nothing_and_no_panic() {
        let whole = tcp(flow(), 1, ACK, 0);
        for length in 0..whole.len() {
            assert_eq!(Segment::of(&whole[..length]).is_some(), length >= 34);
        }
        let mut other = whole.clone();
        other[9] = 17;
        assert_eq!(Segment::of(&other), None);
        assert_eq!(addresses(&[0x60; 40]), None);
    }
}
