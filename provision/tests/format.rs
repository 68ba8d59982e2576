//! The segment: what is written is read, and whatever is not that is refused.
#![allow(clippy::unwrap_used, clippy::indexing_slicing)]

mod common;

use core::time::Duration;

use proptest::prelude::*;
use selium_remote_client_protocol::Capability;
use selium_remote_provision::{
    AuditKey, KeyPem, Listener, MAX_CA_PEM, Provision, ProvisionError,
    format::{self, MAX_PAYLOAD, State},
    segment::{self, CAPACITY},
};
use selium_remote_server_core::policy::{MAX_ROLES, Permissions, Role};

#[test]
fn the_empty_segment_is_unprovisioned_and_nothing_near_it() {
    assert_eq!(format::decode(&segment::EMPTY), Ok(None));
    assert_eq!(format::state(&segment::EMPTY), Ok(State::Unprovisioned));
    // Every bit of what would be the header, and one of some others.
    let header = (0..70).flat_map(|at| (0..8).map(move |bit| (at, bit)));
    for (at, bit) in header.chain((70..CAPACITY).step_by(331).map(|at| (at, at % 8))) {
        let mut bytes = segment::EMPTY;
        bytes[at] ^= 1 << bit;
        assert_eq!(
            format::decode(&bytes),
            Err(ProvisionError::Checksum),
            "{at}"
        );
    }
    assert!(
        segment::EMPTY.iter().all(|byte| *byte != 0),
        "it stays in one piece"
    );
}

#[test]
fn no_change_of_a_provisioned_segment_passes() {
    let whole = format::encode(&common::provision()).unwrap();
    assert_eq!(whole.len(), CAPACITY);
    assert_eq!(format::decode(&whole).unwrap(), Some(common::provision()));
    for at in (0..600)
        .chain((600..CAPACITY).step_by(331))
        .chain([CAPACITY - 1])
    {
        for flip in [1u8, 0x80] {
            let mut bytes = whole.clone();
            bytes[at] ^= flip;
            assert_eq!(
                format::decode(&bytes),
                Err(ProvisionError::Checksum),
                "{at}"
            );
        }
    }
}

#[test]
fn no_part_of_a_segment_passes() {
    let whole = format::encode(&common::provision()).unwrap();
    for len in (0..80)
        .chain((80..CAPACITY).step_by(997))
        .chain([CAPACITY - 1])
    {
        assert_eq!(
            format::decode(&whole[..len]),
            Err(ProvisionError::Truncated(len))
        );
        // Cut off, and the rest zeros, filling, or what was there when it was compiled.
        for rest in [&[0; CAPACITY], &[0xa5; CAPACITY], &segment::EMPTY] {
            let mut bytes = whole.to_vec();
            bytes[len..].copy_from_slice(&rest[len..]);
            if bytes != *whole && bytes != segment::EMPTY {
                assert_eq!(
                    format::decode(&bytes),
                    Err(ProvisionError::Checksum),
                    "{len}"
                );
            }
        }
        // Only the end was written.
        let mut bytes = segment::EMPTY;
        bytes[len..].copy_from_slice(&whole[len..]);
        if bytes != whole[..] && bytes != segment::EMPTY {
            assert_eq!(
                format::decode(&bytes),
                Err(ProvisionError::Checksum),
                "{len}"
            );
        }
    }
    let long = [&whole[..], &[0xa5]].concat();
    assert_eq!(
        format::decode(&long),
        Err(ProvisionError::TooLong(CAPACITY + 1, CAPACITY))
    );
    assert_eq!(
        format::decode(&[0; CAPACITY]),
        Err(ProvisionError::Checksum)
    );
    assert_eq!(
        format::decode(&[0xff; CAPACITY]),
        Err(ProvisionError::Checksum)
    );
}

type Change = fn(&mut Provision);

#[test]
fn what_must_not_be_is_refused_and_named() {
    let cases: [(Change, &str); 16] = [
        (|it| it.listeners.clear(), "no listener"),
        (
            |it| drop(it.listeners.remove(1)),
            "no listener for the role admin",
        ),
        (
            |it| it.listeners[0].port = Some(7003),
            "two listeners have the port 7003",
        ),
        (
            |it| it.listeners[0].port = Some(0),
            "the port of the role operator is 0",
        ),
        (
            |it| it.listeners[0].port = None,
            "the role operator: admin takes the port",
        ),
        (
            |it| it.listeners[1].port = Some(1),
            "the role admin: admin takes the port",
        ),
        (
            |it| it.listeners[2].role.name = "operator".into(),
            "two listeners have the role operator",
        ),
        (|it| it.listeners[2].role.name = "Ä".into(), "role's name"),
        (
            |it| it.listeners[2].client_ca.clear(),
            "client CA has no PEM",
        ),
        (
            |it| it.listeners[2].client_ca = vec![b'-'; MAX_CA_PEM + 1],
            "client CA is larger than 16384",
        ),
        (|it| it.server_chain.clear(), "certificate chain has no PEM"),
        (
            |it| it.server_key = KeyPem::new(common::PEM.into()),
            "server's key has no PEM",
        ),
        (
            |it| it.listeners[0].role.modules.push(String::new()),
            "pattern",
        ),
        (
            |it| it.listeners[0].role.limits.hello = Duration::ZERO,
            "limit hello-seconds of the role operator",
        ),
        (
            |it| it.listeners[0].role.modules = vec!["*".into(); 65],
            "list of modules is larger than 64",
        ),
        (
            |it| {
                for port in 1..=MAX_ROLES as u16 {
                    it.listeners.push(Listener {
                        port: Some(port),
                        ..it.listeners[0].clone()
                    });
                }
            },
            "list of listeners is larger than 16",
        ),
    ];
    for (change, text) in cases {
        let mut provision = common::provision();
        change(&mut provision);
        let error = format::encode(&provision).unwrap_err().to_string();
        assert!(error.contains(text), "{error}\nlacks: {text}");
        assert!(!error.contains(common::CANARY));
    }
}

#[test]
fn what_does_not_fit_is_refused_with_its_size() {
    let mut provision = common::provision();
    for listener in &mut provision.listeners {
        listener.client_ca = common::PEM.repeat(MAX_CA_PEM / common::PEM.len()).into();
    }
    match format::encode(&provision) {
        Err(ProvisionError::TooLong(size, MAX_PAYLOAD)) => assert!(size > MAX_PAYLOAD),
        other => panic!("{other:?}"),
    }
}

#[test]
fn ports_are_those_of_the_listeners() {
    let provision = common::provision();
    let ports = provision.ports(7000).unwrap();
    let ports: Vec<_> = ports
        .iter()
        .map(|(port, it)| (*port, it.role.name.as_str()))
        .collect();
    assert_eq!(
        ports,
        [(7001, "operator"), (7000, "admin"), (7003, "viewer")]
    );
    assert_eq!(provision.ports(7003), Err(ProvisionError::SamePort(7003)));
    assert_eq!(provision.policy().roles[1], Role::admin());
}

#[test]
fn keys_are_not_shown() {
    let shown = format!("{0:?} {0:#?}", common::provision());
    assert!(
        !shown.contains("CANARY") && !shown.contains(common::CANARY),
        "{shown}"
    );
    let bytes = format!("{:?}", b"CANARY");
    assert!(!shown.contains(bytes.trim_matches(['[', ']'])), "{shown}");
}

/// Any role that is within the limits.
fn any_role(name: String) -> impl Strategy<Value = Role> {
    let patterns = proptest::collection::vec("[a-zé*/.]{1,20}", 0..8);
    let limits = (
        1u32..1_024,
        1u64..300_000,
        1u32..4_096,
        65_536u32..1_000_000,
        0u32..1_000,
    );
    (0u32..512, patterns, 0u32..1 << 20, limits).prop_map(
        move |(bits, modules, ceiling, limits)| {
            let mut role = Role::new(name.clone());
            role.permissions = Permissions::from_bits(bits).unwrap();
            role.modules = modules;
            let held = |it: &Capability| ceiling & (1 << it.to_wire()) != 0;
            role.ceiling = Capability::ALL.iter().copied().filter(held).collect();
            role.limits.connections = limits.0;
            role.limits.hello = Duration::from_millis(limits.1);
            role.limits.requests = limits.2;
            role.limits.streams = limits.2;
            role.limits.queued_bytes = limits.3;
            role.limits.processes = limits.4;
            role.limits.starts_per_minute = limits.4;
            role
        },
    )
}

fn any_provision() -> impl Strategy<Value = Provision> {
    let roles = (1usize..=MAX_ROLES).prop_flat_map(|count| {
        let name = |at| {
            if at == 0 {
                "admin".to_owned()
            } else {
                format!("role-{at}")
            }
        };
        (0..count).map(|at| any_role(name(at))).collect::<Vec<_>>()
    });
    (roles, any::<[u8; 32]>(), 1usize..20).prop_map(|(roles, audit, repeat)| Provision {
        server_chain: common::PEM.repeat(repeat).into(),
        server_key: common::key_pem(),
        audit_key: AuditKey::new(audit),
        listeners: (0..)
            .zip(roles)
            .map(|(at, role)| Listener {
                role,
                port: (at > 0).then_some(7_000 + at),
                client_ca: common::PEM.repeat(repeat).into(),
            })
            .collect(),
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn provisions_come_back(provision in any_provision()) {
        let bytes = format::encode(&provision).unwrap();
        prop_assert_eq!(format::decode(&bytes).unwrap(), Some(provision));
    }

    #[test]
    fn a_changed_part_is_refused(
        provision in any_provision(),
        at in 0..CAPACITY,
        part in proptest::collection::vec(any::<u8>(), 1..200),
    ) {
        let bytes = format::encode(&provision).unwrap();
        let mut changed = bytes.to_vec();
        for (place, byte) in changed[at..].iter_mut().zip(&part) {
            *place = *byte;
        }
        if changed != *bytes {
            prop_assert_eq!(format::decode(&changed), Err(ProvisionError::Checksum));
        }
    }

    #[test]
    fn any_bytes_are_refused(bytes in proptest::collection::vec(any::<u8>(), 0..2 * CAPACITY)) {
        prop_assert!(format::decode(&bytes).is_err());
    }

    #[test]
    fn any_payload_behind_a_right_header_is_taken(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
        selium_remote_provision::fuzzing::provision_segment(&bytes);
    }

    #[test]
    fn a_damaged_payload_behind_a_right_header_is_taken(at in 70usize..2_000, byte: u8) {
        let mut bytes = format::encode(&common::provision()).unwrap();
        bytes[at] = byte;
        selium_remote_provision::fuzzing::provision_segment(&bytes[70..2_000]);
    }
}

#[test]
fn what_the_host_gets_of_a_ca_cannot_be_known_without_the_key() {
    let listener =
        Listener::admin(b"-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n".to_vec());
    let first = listener.host_ca(&AuditKey::new([1; 32]));
    assert_eq!(first, listener.host_ca(&AuditKey::new([1; 32])));
    assert_ne!(first, listener.host_ca(&AuditKey::new([2; 32])));
    assert_eq!(first.len(), 64 + 1 + listener.client_ca.len());
    assert!(first.ends_with(&listener.client_ca) && first[64] == b'\n');
    let other =
        Listener::admin(b"-----BEGIN CERTIFICATE-----\nAB==\n-----END CERTIFICATE-----\n".to_vec());
    assert_ne!(first[..64], other.host_ca(&AuditKey::new([1; 32]))[..64]);
}
