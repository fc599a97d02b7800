//! The parts of DNS messages that matter here, and the few messages that are made here.

use std::net::IpAddr;

use simple_dns::rdata::RData;
use simple_dns::{Packet, PacketFlag, RCODE};

/// The size that every resolver accepts over UDP (RFC 1035, section 4.2.1).
const MIN_UDP: usize = 512;

/// Returns the name that a response is about, in lower case, and its addresses; `None` if it has
/// none.
pub(super) fn addresses(response: &[u8]) -> Option<(String, Vec<IpAddr>)> {
    let packet = Packet::parse(response).ok()?;
    let [question] = &packet.questions[..] else { return None };
    // The addresses of an alias are also addresses of the name.
    let addresses = packet.answers.iter().filter_map(|record| match &record.rdata {
        RData::A(a) => Some(IpAddr::V4(a.address.into())),
        RData::AAAA(aaaa) => Some(IpAddr::V6(aaaa.address.into())),
        _ => None,
    });
    let addresses: Vec<_> = addresses.map(|address| address.to_canonical()).collect();
    let name = question.qname.to_string().to_ascii_lowercase();
    (!addresses.is_empty()).then_some((name, addresses))
}

/// Returns the response in a form that fits into UDP. A response that is longer than the sender of
/// the query accepts is truncated, and the query is repeated over TCP (RFC 2181, section 9).
pub(super) fn fit(query: &[u8], response: Vec<u8>) -> Option<Vec<u8>> {
    let packet = Packet::parse(query).ok();
    let size = packet.as_ref().and_then(Packet::opt).map_or(0, |opt| opt.udp_packet_size.into());
    if response.len() <= MIN_UDP.max(size) {
        return Some(response);
    }
    let mut reply = reply_to(packet?);
    reply.set_flags(PacketFlag::TRUNCATION);
    reply.build_bytes_vec().ok()
}

/// Returns the response that the resolver cannot be asked now.
pub(super) fn failure(query: &[u8]) -> Option<Vec<u8>> {
    let mut reply = reply_to(Packet::parse(query).ok()?);
    *reply.rcode_mut() = RCODE::ServerFailure;
    reply.build_bytes_vec().ok()
}

/// Returns a response without an answer.
fn reply_to(query: Packet<'_>) -> Packet<'_> {
    let wants_recursion = query.has_flags(PacketFlag::RECURSION_DESIRED);
    let mut reply = Packet::new_reply(query.id());
    if wants_recursion {
        reply.set_flags(PacketFlag::RECURSION_DESIRED);
    }
    reply.set_flags(PacketFlag::RECURSION_AVAILABLE);
    reply.questions = query.questions;
    reply
}

#[cfg(test)]
mod tests {
    use simple_dns::rdata::{A, AAAA, CNAME, OPT};
    use simple_dns::{CLASS, Name, QCLASS, QTYPE, Question, ResourceRecord, TYPE};

    use super::*;

    fn query(size: Option<u16>) -> Vec<u8> {
        let mut packet = Packet::new_query(7);
        packet.set_flags(PacketFlag::RECURSION_DESIRED);
        packet.questions.push(Question::new(
            Name::new("Www.Example").unwrap(),
            QTYPE::TYPE(TYPE::A),
            QCLASS::CLASS(CLASS::IN),
            false,
        ));
        if let Some(udp_packet_size) = size {
            *packet.opt_mut() = Some(OPT { opt_codes: Vec::new(), udp_packet_size, version: 0 });
        }
        packet.build_bytes_vec().unwrap()
    }

    fn response(answers: &[RData<'static>]) -> Vec<u8> {
        let query = query(None);
        let mut packet = reply_to(Packet::parse(&query).unwrap());
        for data in answers {
            let name = Name::new("alias.example").unwrap();
            packet.answers.push(ResourceRecord::new(name, CLASS::IN, 60, data.clone()));
        }
        packet.build_bytes_vec().unwrap()
    }

    #[test]
    fn the_addresses_of_a_response_belong_to_the_name_that_was_asked_for() {
        let mapped = 0xffff_0a00_0002;
        let answers = [
            RData::CNAME(CNAME(Name::new("alias.example").unwrap())),
            RData::A(A { address: 0x0a00_0001 }),
            RData::AAAA(AAAA { address: mapped }),
        ];
        let (name, addresses) = super::addresses(&response(&answers)).unwrap();
        assert_eq!(name, "www.example");
        assert_eq!(addresses, ["10.0.0.1", "10.0.0.2"].map(|text| text.parse::<IpAddr>().unwrap()));
        assert_eq!(super::addresses(&response(&answers[..1])), None);
    }

    #[test]
    fn nonsense_has_no_addresses_and_no_answer() {
        let whole = response(&[RData::A(A { address: 1 })]);
        for length in 0..whole.len() {
            assert_eq!(super::addresses(&whole[..length]), None);
        }
        for message in [&b""[..], &[0xff; 11], &[0xff; 600], &[0xc0; 64]] {
            assert_eq!(super::addresses(message), None);
            assert_eq!(failure(message), None);
        }
    }

    #[test]
    fn a_response_that_is_longer_than_the_program_takes_is_to_be_asked_for_over_tcp() {
        let long = vec![1; MIN_UDP + 1];
        assert_eq!(fit(&query(None), long[1..].to_vec()).unwrap(), long[1..]);
        assert_eq!(fit(&query(Some(1232)), long.clone()).unwrap(), long);
        for query in [query(None), query(Some(100))] {
            let cut = fit(&query, long.clone()).unwrap();
            let packet = Packet::parse(&cut).unwrap();
            assert!(packet.has_flags(PacketFlag::TRUNCATION | PacketFlag::RESPONSE));
            assert_eq!((packet.id(), packet.questions.len(), packet.answers.len()), (7, 1, 0));
        }
    }

    #[test]
    fn a_failure_is_a_response_to_the_question() {
        let message = failure(&query(Some(1232))).unwrap();
        let packet = Packet::parse(&message).unwrap();
        assert_eq!((packet.id(), packet.rcode()), (7, RCODE::ServerFailure));
        assert!(packet.has_flags(PacketFlag::RESPONSE | PacketFlag::RECURSION_DESIRED));
    }
}
