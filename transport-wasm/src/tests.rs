//! Handles against the fake host: who frees what, when, and how often.

use core::{
    cell::RefCell,
    future::{Future, poll_fn},
    task::Poll,
};
use std::{pin::pin, rc::Rc};

use selium_abi::{IoFrame, IoRead, NetAcceptReply, NetTlsConfigReply, ProcessStart, decode_rkyv};

use crate::{
    HostError,
    channel::{Backpressure, Channel, ReadError},
    executor::{run, yield_now},
    fake, orphan, process,
    quic::{Listener, MAX_WRITE, Reader, TlsConfig, TlsMaterial, Writer},
    time,
};

const ACCEPT: &str = "selium::net::quic::accept";
const READ: &str = "selium::net::quic::read";
const WRITE: &str = "selium::net::quic::write";
const START: &str = "selium::process::start";

/// Runs `test` on a fresh host, then checks that no rule was broken.
fn on_host(test: impl Future<Output = ()> + 'static) {
    fake::reset();
    go(test);
}

fn go(test: impl Future<Output = ()> + 'static) {
    run(test).unwrap();
    assert!(fake::violations().is_empty(), "{:?}", fake::violations());
}

/// Several rounds of the executor's loop.
async fn settle() {
    for _ in 0..200 {
        yield_now().await;
    }
}

/// Polls once, then drops.
async fn poll_and_drop<T>(future: impl Future<Output = T>) -> bool {
    let mut future = pin!(future);
    poll_fn(|cx| Poll::Ready(future.as_mut().poll(cx).is_pending())).await
}

fn connection() -> fake::Reply {
    let (reader, writer) = (u64::from(fake::alloc(false)), u64::from(fake::alloc(false)));
    fake::ok(&NetAcceptReply {
        reader,
        writer,
        remote_addr: "10.0.0.1:5".into(),
    })
}

fn frame(payload: &[u8]) -> fake::Reply {
    fake::ok(&IoFrame {
        writer_id: 3,
        payload: payload.to_vec(),
    })
}

/// A connection without anything else.
async fn connected() -> (Reader, Writer) {
    fake::on(ACCEPT, |_| connection());
    let mut listener = Listener::bind("localhost", 7000, None).await.unwrap();
    let accepted = listener.accept().await.unwrap();
    assert_eq!(accepted.remote_addr, "10.0.0.1:5");
    (accepted.reader, accepted.writer)
}

#[test]
fn handles_are_freed_exactly_once() {
    on_host(async {
        let (mut reader, mut writer) = connected().await;
        assert_eq!(fake::slots_in_use(), 2);
        writer.write(b"hello").await.unwrap();
        writer.write(b"").await.unwrap();
        assert_eq!(fake::take_written().len(), 1);
        fake::on(READ, |args| {
            assert_eq!(
                decode_rkyv::<IoRead>(args).unwrap().len,
                crate::host::MAX_READ
            );
            frame(b"data")
        });
        assert_eq!(reader.read(u32::MAX).await.unwrap(), "data");
        fake::on(READ, |_| frame(b""));
        fake::on(READ, |_| frame(&vec![7; crate::host::MAX_READ as usize]));
        assert_eq!(
            reader.read(u32::MAX).await.unwrap().len(),
            crate::host::MAX_READ as usize
        );
        drop(reader);
        assert_eq!(fake::slots_in_use(), 1);
        // The freed slot is recycled at once; nothing that is left may free it again.
        let recycled = fake::alloc(true);
        writer.close().await.unwrap();
        settle().await;
        assert_eq!(fake::slots_in_use(), 1);
        assert_eq!(fake::calls("selium::channel::delete"), 3);
        assert_eq!(recycled, 1);
    });
}

#[test]
fn a_dropped_accept_is_resumed() {
    on_host(async {
        let mut listener = Listener::bind("localhost", 7000, None).await.unwrap();
        assert!(poll_and_drop(listener.accept()).await);
        assert!(poll_and_drop(listener.accept()).await);
        assert_eq!(fake::calls(ACCEPT), 1, "the second call resumes the first");
        fake::complete(fake::pending(ACCEPT)[0], connection());
        let accepted = listener.accept().await.unwrap();
        drop(accepted);
        assert_eq!(fake::slots_in_use(), 1);
    });
}

#[test]
fn a_failed_handshake_does_not_end_the_listener() {
    on_host(async {
        let mut listener = Listener::bind("localhost", 7000, None).await.unwrap();
        fake::on(ACCEPT, |_| {
            fake::error("internal error: connection failed: aborted by peer")
        });
        assert!(matches!(listener.accept().await, Err(HostError::Other(_))));
        fake::on(ACCEPT, |_| connection());
        assert!(listener.accept().await.is_ok());
    });
}

#[test]
fn an_abandoned_accept_frees_the_connection_that_comes() {
    on_host(async {
        let mut listener = Listener::bind("localhost", 7000, None).await.unwrap();
        assert!(poll_and_drop(listener.accept()).await);
        drop(listener);
        assert_eq!(
            (fake::slots_in_use(), orphan::in_flight()),
            (1, 1),
            "not freed under the operation"
        );
        settle().await;
        fake::complete(fake::pending(ACCEPT)[0], connection());
        assert_eq!(fake::slots_in_use(), 3);
        settle().await;
        assert_eq!((fake::slots_in_use(), orphan::in_flight()), (0, 0));
    });
}

#[test]
fn an_abandoned_read_frees_its_slot_when_it_ends() {
    on_host(async {
        let (mut reader, writer) = connected().await;
        assert!(poll_and_drop(reader.read(10)).await);
        assert!(poll_and_drop(reader.read(10)).await);
        assert_eq!(fake::calls(READ), 1);
        drop((reader, writer));
        settle().await;
        assert_eq!((fake::slots_in_use(), orphan::in_flight()), (1, 1));
        // Whoever gets the writer's old slot is not touched.
        let other = fake::alloc(true);
        fake::complete(
            fake::pending(READ)[0],
            fake::error("internal error: read failed: connection lost"),
        );
        settle().await;
        assert_eq!((fake::slots_in_use(), orphan::in_flight()), (1, 0));
        assert_ne!(fake::alloc(false), other);
    });
}

#[test]
fn a_dropped_write_is_carried_out_before_the_next() {
    on_host(async {
        let (_reader, mut writer) = connected().await;
        fake::on(WRITE, |_| fake::Reply::Pending);
        assert!(poll_and_drop(writer.write(b"one")).await);
        assert!(writer.is_busy());
        assert!(poll_and_drop(writer.write(b"two")).await);
        assert_eq!(fake::calls(WRITE), 1, "one at a time");
        fake::complete(
            fake::pending(WRITE)[0],
            fake::error("internal error: write failed: stopped"),
        );
        assert!(
            matches!(writer.write(b"two").await, Err(HostError::Other(_))),
            "the error of the first"
        );
        let large = writer.write(&[0; MAX_WRITE + 1]).await;
        assert!(matches!(
            large,
            Err(HostError::TooLarge {
                limit: MAX_WRITE,
                ..
            })
        ));
        assert!(
            poll_and_drop(writer.close()).await.eq(&false),
            "nothing is left to wait for"
        );
    });
}

#[test]
fn orphans_of_a_finished_executor_leak_rather_than_free() {
    fake::reset();
    go(async {
        let (mut reader, writer) = connected().await;
        drop(writer);
        assert!(poll_and_drop(reader.read(10)).await);
        crate::executor::spawn(async move {
            let _reader = reader;
            core::future::pending::<()>().await;
        })
        .unwrap();
        yield_now().await;
    });
    assert_eq!(fake::slots_in_use(), 1);
    assert_eq!(orphan::forgotten(), 1);
}

#[test]
fn dropped_creates_are_undone() {
    on_host(async {
        let channel = Channel::create(1_024, Backpressure::Park).await.unwrap();
        for name in [
            "selium::channel::weak_reader_create",
            "selium::channel::create",
            "selium::net::quic::bind",
            "selium::channel::attach",
        ] {
            fake::on(name, |_| fake::Reply::Pending);
        }
        assert!(poll_and_drop(channel.weak_reader()).await);
        assert!(poll_and_drop(Channel::create(8, Backpressure::Drop)).await);
        assert!(poll_and_drop(Listener::bind("localhost", 1, None)).await);
        let shared = channel.share().await.unwrap();
        assert!(poll_and_drop(Channel::attach(shared)).await);
        fake::complete(
            fake::pending("selium::channel::weak_reader_create")[0],
            fake::ok(&fake::alloc(false)),
        );
        fake::complete(
            fake::pending("selium::channel::create")[0],
            fake::ok(&fake::alloc(true)),
        );
        let handle = u64::from(fake::alloc(false));
        fake::complete(
            fake::pending("selium::net::quic::bind")[0],
            fake::ok(&selium_abi::NetCreateListenerReply { handle }),
        );
        fake::complete(
            fake::pending("selium::channel::attach")[0],
            fake::ok(&fake::alloc(true)),
        );
        settle().await;
        assert_eq!(fake::slots_in_use(), 1);
        assert_eq!(
            fake::calls("selium::channel::detach"),
            1,
            "an attached channel belongs to somebody else"
        );
    });
    assert_eq!(fake::slots_in_use(), 0);
}

#[test]
fn a_released_reader_frees_its_slot_under_the_read() {
    on_host(async {
        let channel = Channel::create(4_096, Backpressure::Park).await.unwrap();
        let mut reader = channel.strong_reader().await.unwrap();
        assert!(poll_and_drop(reader.read(10)).await);
        assert!(reader.is_busy());
        let read = fake::pending("selium::channel::strong_read")[0];
        reader.release();
        assert_eq!(fake::slots_in_use(), 1);
        assert_eq!(orphan::in_flight(), 0);
        // The slot is recycled, and what comes of the read touches nobody.
        let mut other = channel.weak_writer().await.unwrap();
        fake::on("selium::channel::weak_write", |_| fake::Reply::Pending);
        assert!(poll_and_drop(other.write(b"x")).await);
        fake::complete(read, frame(b"late"));
        assert!(other.is_busy());
        fake::complete(
            fake::pending("selium::channel::weak_write")[0],
            fake::ok(&1_u32),
        );
        other.write(&[]).await.unwrap_err();
        drop((other, channel));
        settle().await;
        assert_eq!(fake::slots_in_use(), 0);
    });
}

#[test]
fn what_is_opened_begins_at_once_and_is_undone() {
    on_host(async {
        let channel = Channel::create(4_096, Backpressure::Park).await.unwrap();
        let opening = channel.strong_reader();
        assert_eq!(fake::calls("selium::channel::strong_reader_create"), 1);
        drop(opening);
        settle().await;
        assert_eq!(fake::slots_in_use(), 1);
        channel.detach();
    });
}

#[test]
fn a_channel_is_an_argument_by_its_slot() {
    on_host(async {
        let channel = Channel::create(8, Backpressure::Park).await.unwrap();
        let seen = Rc::new(RefCell::new(Vec::new()));
        let args = Rc::clone(&seen);
        fake::on(START, move |input| {
            let start = decode_rkyv::<ProcessStart>(input).unwrap();
            args.borrow_mut().extend(start.entrypoint.args);
            fake::ok(&5_u64)
        });
        let mut spec = process::StartSpec::new("m.wasm", "start");
        let shared = channel.share().await.unwrap();
        spec.arguments = vec![
            process::Argument::Channel((&channel).into()),
            process::Argument::Shared(shared),
        ];
        process::start(spec).await.unwrap();
        let resource = selium_abi::EntrypointArg::Resource;
        assert_eq!(seen.borrow()[1..], [resource(0), resource(shared.get())]);
    });
}

#[test]
fn channels_delete_detach_and_read() {
    on_host(async {
        let channel = Channel::create(4_096, Backpressure::Park).await.unwrap();
        let attached = Channel::attach(channel.share().await.unwrap())
            .await
            .unwrap();
        let mut writer = channel.strong_writer().await.unwrap();
        writer.write(b"x").await.unwrap();
        assert_eq!(writer.write(b"").await, Err(HostError::InvalidArgument));
        channel.drain().await.unwrap();
        let mut weak = attached.weak_reader().await.unwrap();
        let answer = Rc::new(RefCell::new(String::new()));
        let text = Rc::clone(&answer);
        fake::on("selium::channel::weak_read", move |_| {
            fake::error(&format!("internal error: io error: {}", text.borrow()))
        });
        for (text, expected) in [
            ("Reader was too slow and got left behind", ReadError::Gap),
            ("frame exceeds requested length", ReadError::TooLarge),
            ("connection aborted", ReadError::Closed),
            ("broken pipe", ReadError::Closed),
            ("operation interrupted", ReadError::Drained),
        ] {
            *answer.borrow_mut() = text.to_owned();
            assert_eq!(weak.read(100).await, Err(expected));
        }
        let mut strong = attached.strong_reader().await.unwrap();
        fake::on("selium::channel::strong_read", |_| frame(b"abc"));
        let read = strong.read(100).await.unwrap();
        assert_eq!(
            (read.writer_id, read.payload.as_ref()),
            (3, b"abc".as_slice())
        );
        drop((weak, strong, writer, attached));
        assert_eq!(fake::calls("selium::channel::detach"), 1);
        channel.delete().await.unwrap();
        assert_eq!(fake::slots_in_use(), 0);
        Channel::create(8, Backpressure::Park)
            .await
            .unwrap()
            .detach();
        assert!(matches!(
            Channel::create(u32::MAX, Backpressure::Park).await,
            Err(HostError::TooLarge { .. })
        ));
        assert!(matches!(
            Channel::create(0, Backpressure::Park).await,
            Err(HostError::InvalidArgument)
        ));
    });
}

#[test]
fn a_missing_capability_is_an_error_without_a_wake_up() {
    on_host(async {
        assert_eq!(time::now().await, Err(HostError::PermissionDenied));
        assert_eq!(
            time::sleep(u64::MAX).await,
            Err(HostError::PermissionDenied)
        );
        let material = TlsMaterial {
            cert_chain: vec![1],
            private_key: b"secret".to_vec(),
            client_ca: None,
            require_client_auth: false,
        };
        assert!(!format!("{material:?}").contains("secret"));
        assert!(matches!(
            TlsConfig::create(&material).await,
            Err(HostError::PermissionDenied)
        ));
        fake::on("selium::net::tls::server_config_create", |_| {
            fake::ok(&NetTlsConfigReply {
                handle: u64::from(fake::alloc(false)),
            })
        });
        let tls = TlsConfig::create(&material).await.unwrap();
        let listener = Listener::bind("localhost", 1, Some(&tls)).await.unwrap();
        drop((tls, listener));
        assert_eq!(fake::slots_in_use(), 0);
    });
}

#[test]
fn long_error_texts_are_cut() {
    on_host(async {
        fake::on("selium::process::stop", |_| {
            fake::error(&format!("entrypoint `{}` not found", "é".repeat(5_000)))
        });
        match process::stop(1).await {
            Err(HostError::Other(text)) => assert!(text.len() <= 512 && text.len() > 500),
            other => panic!("{other:?}"),
        }
    });
}

#[test]
fn a_start_carries_its_log_uri_and_limits() {
    on_host(async {
        let seen = Rc::new(RefCell::new(None));
        let sink = Rc::clone(&seen);
        fake::on(START, move |args| {
            *sink.borrow_mut() = decode_rkyv::<ProcessStart>(args).ok();
            fake::ok(&(1u64 << 54))
        });
        let mut spec = process::StartSpec::new("echo.wasm", "start");
        spec.capabilities = vec![process::Capability::ChannelWriter];
        spec.arguments = vec![
            process::Argument::Scalar(process::AbiScalarValue::U16(7)),
            process::Argument::Buffer(b"text".to_vec()),
        ];
        assert_eq!(process::start(spec.clone()).await, Ok(1 << 54));
        let start = seen.take().unwrap();
        assert_eq!(
            (start.module_id.as_str(), start.name.as_str()),
            ("echo.wasm", "start")
        );
        assert_eq!(start.entrypoint.args.len(), 3);
        assert_eq!(
            start.entrypoint.args[0],
            selium_abi::EntrypointArg::Buffer(Vec::new())
        );
        assert!(start.entrypoint.validate().is_ok());

        spec.log_uri = Some("sel://x".into());
        spec.arguments = vec![process::Argument::Buffer(vec![
            0;
            process::MAX_ARGUMENT_BYTES
                - 7
        ])];
        assert!(process::start(spec.clone()).await.is_ok());
        spec.log_uri = Some("sel://xy".into());
        assert!(matches!(
            process::start(spec).await,
            Err(HostError::TooLarge {
                what: "arguments",
                ..
            })
        ));
        let long = "x".repeat(process::MAX_NAME + 1);
        assert!(matches!(
            process::start(process::StartSpec::new(long.clone(), "s")).await,
            Err(HostError::TooLarge { .. })
        ));
        assert!(matches!(
            process::start(process::StartSpec::new("m", long)).await,
            Err(HostError::TooLarge { .. })
        ));
        assert_eq!(fake::calls(START), 2, "the host saw none of the refused");
    });
}

#[test]
fn an_abandoned_start_is_reported_and_keeps_its_place() {
    on_host(async {
        fake::on(START, |_| fake::Reply::Pending);
        let orphans = Rc::new(RefCell::new(Vec::new()));
        let sink = Rc::clone(&orphans);
        process::on_orphan(move |orphan| sink.borrow_mut().push(orphan));
        let starts: Vec<_> = (0..4)
            .map(|n| process::start(process::StartSpec::new(format!("m{n}"), "s")))
            .collect();
        let mut starts: Vec<_> = starts.into_iter().map(Box::pin).collect();
        poll_fn(|cx| {
            assert!(
                starts
                    .iter_mut()
                    .all(|start| start.as_mut().poll(cx).is_pending())
            );
            Poll::Ready(())
        })
        .await;
        assert_eq!(fake::calls(START), process::MAX_STARTS_IN_FLIGHT);
        let handed: Vec<_> = starts.iter().map(|start| start.handed_over()).collect();
        assert_eq!(handed, [true, true, false, false]);
        // The third was never handed over: nothing happens. The first is.
        let mut fourth = starts.pop().unwrap();
        drop(starts.pop());
        drop(starts.remove(0));
        assert!(
            !poll_and_drop(poll_fn(|cx| Poll::Ready(
                fourth.as_mut().poll(cx).is_pending()
            )))
            .await
        );
        assert_eq!(
            fake::calls(START),
            2,
            "the host still works on the abandoned start"
        );
        fake::complete(fake::pending(START)[0], fake::ok(&77u64));
        settle().await;
        assert_eq!(orphans.borrow().len(), 1);
        assert_eq!(
            (
                orphans.borrow()[0].process_id,
                orphans.borrow()[0].module_id.as_str()
            ),
            (77, "m0")
        );
        poll_fn(|cx| {
            assert!(fourth.as_mut().poll(cx).is_pending());
            Poll::Ready(())
        })
        .await;
        assert!(fourth.handed_over());
        fake::complete(fake::pending(START)[1], fake::ok(&78u64));
        assert_eq!(fourth.await, Ok(78));
        // A failed orphan has nothing to report.
        drop(starts);
        fake::complete(
            fake::pending(START)[0],
            fake::error("internal error: no such module"),
        );
        settle().await;
        assert_eq!((orphans.borrow().len(), orphan::in_flight()), (1, 0));
    });
}

#[test]
fn malformed_replies_are_errors() {
    on_host(async {
        fake::on("selium::process::start", |_| {
            fake::Reply::Ready(vec![1, 2, 3])
        });
        assert_eq!(
            process::start(process::StartSpec::new("m", "s")).await,
            Err(HostError::Malformed("reply"))
        );
        fake::on("selium::net::quic::bind", |_| {
            fake::ok(&selium_abi::NetCreateListenerReply { handle: 1 << 40 })
        });
        assert!(matches!(
            Listener::bind("x", 1, None).await,
            Err(HostError::Malformed("handle"))
        ));
        assert!(matches!(
            Listener::bind(&"x".repeat(300), 1, None).await,
            Err(HostError::TooLarge { .. })
        ));
    });
}
