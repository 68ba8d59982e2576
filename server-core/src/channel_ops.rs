//! What clients do with channels as wholes.

use selium_remote_client_protocol::{
    EntrypointArg, ErrorCode, RemoteError,
    limits::MAX_LIST,
    ops::{
        ChannelList, ChannelState, Common, CreateRequest, ListChannelsRequest, StartRequest,
        decode_target, op,
    },
};

use crate::{
    audit::{Asked, Done},
    channels::Planned,
    failure,
    host::{HostCall, HostChannel, OpId},
    policy::{Permission, RoleId},
    requests::{Answer, Reply},
    server::{Server, Waiter},
    sessions::Token,
    topic::{Kind, Rest, TopicId},
};

/// What is done with a channel that exists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum What {
    Delete,
    Drain,
    Share,
}

/// Something that is done with a channel in the host.
#[derive(Debug)]
pub(crate) enum Change {
    Create {
        planned: Planned,
        waiter: Waiter,
        token: Option<Token>,
        asked: Asked,
    },
    Other {
        what: What,
        channel: u64,
        waiters: Vec<(Waiter, Option<Token>, Asked)>,
    },
}

impl Server {
    pub(crate) fn create_channel(
        &mut self,
        waiter: Waiter,
        common: &Common,
        body: &[u8],
    ) -> Answer {
        let mut asked = self.asked(waiter, op::CHANNEL_CREATE, body);
        let token = match self.admit(waiter, common, &asked) {
            Ok(token) => token,
            Err(answer) => return answer,
        };
        let planned = CreateRequest::decode(body)
            .map_err(RemoteError::from)
            .and_then(|request| self.channels.plan(&request, asked.role, &self.config));
        let planned = match planned {
            Ok(planned) => planned,
            Err(error) => {
                self.conclude(&asked, waiter, token, Err(error));
                return None;
            }
        };
        asked.target.clone_from(&planned.name);
        let op = self.next_op();
        self.calls.push_back(HostCall::CreateChannel {
            op,
            channel: planned.host,
            capacity: planned.capacity,
            backpressure: planned.backpressure,
        });
        let change = Change::Create {
            planned,
            waiter,
            token,
            asked,
        };
        self.changing.insert(op, change);
        None
    }

    pub(crate) fn change_channel(
        &mut self,
        waiter: Waiter,
        common: &Common,
        op: u64,
        body: &[u8],
    ) -> Answer {
        let what = match op {
            op::CHANNEL_DELETE => What::Delete,
            op::CHANNEL_DRAIN => What::Drain,
            _ => What::Share,
        };
        let asked = self.asked(waiter, op, body);
        let token = match self.admit(waiter, common, &asked) {
            Ok(token) => token,
            Err(answer) => return answer,
        };
        let found = decode_target(body)
            .map_err(RemoteError::from)
            .and_then(|target| self.channels.all.find(&target));
        let channel = match found {
            Ok(channel) => channel,
            Err(error) => {
                self.conclude(&asked, waiter, token, Err(error));
                return None;
            }
        };
        let is_so = match what {
            What::Delete => false,
            What::Drain => channel.state == ChannelState::Draining,
            What::Share => channel.shared,
        };
        if is_so {
            let answer = channel.info().encode();
            self.record(&asked, &Done::WasSo(None));
            self.settle(waiter, token, Ok(answer));
            return None;
        }
        let (ordinal, channel) = (channel.ordinal, channel.host);
        // Whoever else asks for it waits for the same.
        let running = self.changing.values_mut().find_map(|change| match change {
            Change::Other {
                what: running,
                channel,
                waiters,
            } if *running == what && *channel == ordinal => Some(waiters),
            _ => None,
        });
        if let Some(waiters) = running {
            waiters.push((waiter, token, asked));
            return None;
        }
        let op = self.next_op();
        self.calls.push_back(match what {
            What::Delete => HostCall::DeleteChannel { op, channel },
            What::Drain => HostCall::DrainChannel { op, channel },
            What::Share => HostCall::ShareChannel { op, channel },
        });
        let change = Change::Other {
            what,
            channel: ordinal,
            waiters: vec![(waiter, token, asked)],
        };
        self.changing.insert(op, change);
        None
    }

    /// Whether the host is doing this with a channel.
    pub(crate) fn is_changing(&self, ordinal: u64, wanted: What) -> bool {
        self.changing.values().any(|change| {
            matches!(change, Change::Other { what, channel, .. } if *what == wanted && *channel == ordinal)
        })
    }

    /// The host has done something with a channel, or not.
    pub(crate) fn channel_done(&mut self, op: OpId, result: Result<(), String>) {
        match self.changing.remove(&op) {
            Some(Change::Create {
                planned,
                waiter,
                token,
                asked,
            }) => {
                let result = match result {
                    Ok(()) => self.created(planned),
                    Err(words) => {
                        self.channels.give_up(&planned);
                        Err(failure::channel("create", &planned.name, &words))
                    }
                };
                if result.is_ok() {
                    self.record(&asked, &Done::Changed(None));
                }
                self.conclude(&asked, waiter, token, result);
            }
            Some(Change::Other {
                what,
                channel,
                waiters,
            }) => {
                let answer = self.changed_channel(what, channel, result);
                for (at, (waiter, token, asked)) in waiters.into_iter().enumerate() {
                    match &answer {
                        Ok(_) if at == 0 => self.record(&asked, &Done::Changed(None)),
                        // Who asked as well changed nothing by it.
                        Ok(_) => self.record(&asked, &Done::WasSo(None)),
                        Err(_) => {}
                    }
                    self.conclude(&asked, waiter, token, answer.clone());
                }
            }
            None => {}
        }
    }

    fn created(&mut self, planned: Planned) -> Reply {
        let Some(ids) = self.ids().cloned() else {
            self.channels.give_up(&planned);
            let message = "the server has no incarnation";
            return Err(RemoteError::new(ErrorCode::Internal, message));
        };
        let now_ms = self.unix_ms();
        let channel = self.channels.insert(&ids, planned, now_ms);
        Ok(channel.info().encode())
    }

    fn changed_channel(&mut self, what: What, ordinal: u64, result: Result<(), String>) -> Reply {
        let Some(channel) = self.channels.all.get_mut(ordinal) else {
            let message = "the channel was deleted";
            return Err(RemoteError::new(ErrorCode::NotFound, message).with_field("target"));
        };
        let name = channel.name.clone();
        let verb = match what {
            What::Delete => "delete",
            What::Drain => "drain",
            What::Share => "share",
        };
        if result.is_ok() {
            match what {
                What::Delete => channel.state = ChannelState::Deleted,
                What::Drain => channel.state = ChannelState::Draining,
                What::Share => channel.shared = true,
            }
        }
        match (what, result.is_ok()) {
            (What::Delete, true) => return Ok(self.delete_channel(ordinal)),
            (What::Drain, true) => self.end_publications(ordinal),
            _ => {}
        }
        if what != What::Share {
            self.decide_rest(ordinal);
        }
        if let Err(words) = result {
            return Err(failure::channel(verb, &name, &words));
        }
        let channel = self.channels.all.get(ordinal);
        Ok(channel.map_or_else(Vec::new, |channel| channel.info().encode()))
    }

    /// A process has deleted a channel.
    pub(crate) fn channel_gone(&mut self, channel: HostChannel) {
        let known = self.channels.all.iter().find(|known| known.host == channel);
        if let Some(ordinal) = known.map(|known| known.ordinal) {
            self.delete_channel(ordinal);
        }
    }

    /// Forgets a channel that the host has deleted.
    fn delete_channel(&mut self, ordinal: u64) -> Vec<u8> {
        for kind in [Kind::Lossy, Kind::Lossless] {
            let topic = TopicId {
                channel: ordinal,
                kind,
            };
            let message = "the channel was deleted";
            self.end_subscribers(topic, &RemoteError::new(ErrorCode::Cancelled, message));
            self.forget_topic(topic);
        }
        self.break_publications(ordinal);
        let channel = self.channels.remove(ordinal);
        channel.map_or_else(Vec::new, |channel| channel.info().encode())
    }

    /// Readers that ended while the host was draining or deleting a channel: now it is known why.
    fn decide_rest(&mut self, ordinal: u64) {
        let Some(channel) = self.channels.all.get(ordinal) else {
            return;
        };
        let drained = channel.state == ChannelState::Draining;
        let undecided = self.is_changing(ordinal, What::Delete)
            || !drained && self.is_changing(ordinal, What::Drain);
        if undecided {
            return;
        }
        for kind in [Kind::Lossy, Kind::Lossless] {
            let id = TopicId {
                channel: ordinal,
                kind,
            };
            let Some(topic) = self.channels.topic_mut(id) else {
                return;
            };
            if topic.rest == Rest::Unknown {
                topic.rest = if drained { Rest::None } else { Rest::Some };
                self.open_reader(id);
                self.pump_topic(id);
            }
        }
    }

    pub(crate) fn list_channels(&self, body: &[u8]) -> Reply {
        let request = ListChannelsRequest::decode(body)?;
        let limit = request.limit.clamp(1, MAX_LIST);
        let mut list = ChannelList::default();
        for channel in self.channels.all.since(request.cursor) {
            if list.channels.len() == limit {
                list.next = Some(channel.ordinal);
                break;
            }
            list.channels.push(channel.info());
        }
        Ok(list.encode())
    }

    pub(crate) fn inspect_channel(&self, body: &[u8]) -> Reply {
        let target = decode_target(body)?;
        Ok(self.channels.all.find(&target)?.info().encode())
    }

    /// Whether a role may name the channels that are among the arguments of a start, if there are any.
    pub(crate) fn allow_channels(
        &self,
        role: RoleId,
        spec: &StartRequest,
    ) -> Result<(), RemoteError> {
        if channels_of(spec).next().is_none() {
            return Ok(());
        }
        self.allow(role, Permission::Channels)
            .map_err(|error| error.with_field("arguments"))
    }

    /// The channels among the arguments of a start.
    pub(crate) fn resolve_channels(
        &self,
        spec: &StartRequest,
    ) -> Result<Vec<(u64, HostChannel)>, RemoteError> {
        let mut channels: Vec<(u64, HostChannel)> = Vec::new();
        for id in channels_of(spec) {
            if channels.iter().any(|(known, _)| *known == id) {
                continue;
            }
            let Some(channel) = self.channels.all.get_id(id) else {
                let message = format!("there is no channel `{}`", crate::ids::show(id));
                let error = RemoteError::new(ErrorCode::NotFound, message);
                return Err(error.with_field("arguments"));
            };
            if channel.state != ChannelState::Open {
                return Err(channel.drains().with_field("arguments"));
            }
            channels.push((id, channel.host));
        }
        Ok(channels)
    }

    /// A process was given these channels: the runtime knows them.
    pub(crate) fn channels_given(&mut self, spec: &StartRequest) {
        for id in channels_of(spec) {
            if let Some(channel) = self.channels.all.get_id_mut(id) {
                channel.shared = true;
            }
        }
    }
}

fn channels_of(spec: &StartRequest) -> impl Iterator<Item = u64> {
    spec.args.iter().filter_map(|arg| match arg {
        EntrypointArg::Resource(id) => Some(*id),
        _ => None,
    })
}
