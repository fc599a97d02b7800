//! The first attach: whether the server is trusted, and which key it admits.

use std::time::Duration;

use eternaltcp::RefusalCode;
use eternaltcp::client::{Client, ClientConfig, ClientEnd, Rejection, RejectionReason, Trust};
use eternaltcp::status::{Peer, ServerPeer};

use super::report::DoctorReport;
use crate::cli::ServerArgs;
use crate::cproxy::configure;
use crate::credentials::Credentials;
use crate::exit::ExitError;

/// The settings of a client, except for the servers that it trusts.
pub(super) struct Applicant<'a> {
    pub(super) args: &'a ServerArgs,
    pub(super) credentials: &'a Credentials,
    pub(super) patience: Duration,
    /// The reason why the user has no key, and a stranger's is proved.
    pub(super) keyless: Option<&'a str>,
}

impl Applicant<'_> {
    /// Attaches, and reports how the server and the keys were judged.
    pub(super) async fn attach(
        &self,
        report: &mut DoctorReport,
    ) -> Result<Option<Client>, ExitError> {
        // A diagnosis stores nothing that it was not asked to.
        let trust = self.credentials.trust.clone().without_updates();
        let mut result = self.try_attach(trust.clone().refusing_unknown()).await?;
        let mut is_new = false;
        if let (Err(ClientEnd::Refused(why)), true) = (&result, self.args.accept_new)
            && why.reason() == RejectionReason::HostKeyUnknown
        {
            is_new = true;
            result = self.try_attach(trust.accepting_new()).await?;
        }
        match result {
            Ok(client) => {
                report_admission(report, &client, is_new).await;
                Ok(Some(client))
            }
            Err(ClientEnd::Refused(why)) => {
                self.report_rejection(report, &why);
                Ok(None)
            }
            Err(end) => {
                let advice = "the lines above may say why; etcp -v doctor shows more";
                report.fail("server", end.to_string(), advice);
                Ok(None)
            }
        }
    }

    async fn try_attach(&self, trust: Trust) -> Result<Result<Client, ClientEnd>, ExitError> {
        let credentials = Credentials { trust, ..self.credentials.clone() };
        let mut client = Client::start(self.config(credentials)?).map_err(ExitError::failed)?;
        Ok(client.attached().await.map(|()| client))
    }

    fn config(&self, credentials: Credentials) -> Result<ClientConfig, ExitError> {
        let name = format!("doctor {}", std::process::id());
        let mut config = configure(self.args, credentials, name)?;
        config.connect_timeout = Some(self.patience);
        Ok(config)
    }

    fn report_rejection(&self, report: &mut DoctorReport, why: &Rejection) {
        let text = why.to_string();
        let RejectionReason::ByServer(code) = why.reason() else {
            let (text, advice) = host_key(why.reason(), &text);
            report.fail("host key", text, advice);
            report.skip("own key", "not shown to a server that is not trusted");
            return;
        };
        report.ok("host key", "it is known");
        match (code, self.keyless) {
            (RefusalCode::KeyUnknown, Some(why)) => {
                report.fail("own key", format!("you have none: {why}"), KEYLESS);
            }
            (RefusalCode::KeyUnknown, None) => {
                // The rest of the text has the whole key.
                let text = text.split("; to admit").next().unwrap_or_default();
                report.fail("own key", text, UNKNOWN);
            }
            (RefusalCode::KeyExpired | RefusalCode::KeyRestricted | RefusalCode::Address, _) => {
                report.fail("own key", text, "see the options of the key in authorized_keys there");
            }
            (code, _) => report.fail("server", text, refused(code)),
        }
    }
}

const KEYLESS: &str = "make one with: etcp keygen, and let the server admit it";

const UNKNOWN: &str = "add the public half of one of them (its .pub file, or what ssh-add -L shows) to \
                       ~/.ssh/authorized_keys of the user who runs sproxy";

/// Returns the advice about a refusal that does not concern the key.
fn refused(code: RefusalCode) -> &'static str {
    match code {
        RefusalCode::Version => "upgrade the older side",
        RefusalCode::NotReady | RefusalCode::Draining => "try again in a minute",
        RefusalCode::LimitReached => "the log of the server names the limit, which is a flag there",
        _ => "the log of the server says more",
    }
}

/// Returns the text and the advice for a server that is not trusted.
fn host_key(reason: RejectionReason, text: &str) -> (String, &'static str) {
    match reason {
        RejectionReason::HostKeyUnknown => {
            // The rest of the text has the whole key.
            let text = text.split(": give --accept-new").next().unwrap_or_default();
            let advice = "compare it with the line 'server key' that sproxy logs when it starts, then \
                          connect once with --accept-new";
            (text.to_owned(), advice)
        }
        RejectionReason::HostKeyChanged => {
            let text = text.split(". Somebody").next().unwrap_or_default();
            let advice = "somebody may be in between; if you know that the key was changed, remove \
                          that line";
            (text.to_owned(), advice)
        }
        RejectionReason::HostKeyRevoked => {
            (text.to_owned(), "do not connect; ask the administrator of the server")
        }
        _ => (text.to_owned(), "make the file readable"),
    }
}

/// Reports the keys and the features of an attached tunnel.
async fn report_admission(report: &mut DoctorReport, client: &Client, is_new: bool) {
    let status = client.status().await;
    let Some(Peer::Server(server)) = status.map(|status| status.peer) else { return };
    let ServerPeer { key, user_key, features, .. } = server;
    let key = key.unwrap_or_default();
    if is_new {
        report.note("host key", format!("{key} was not known; --accept-new has stored it"), "");
    } else {
        report.ok("host key", format!("{key} is known"));
    }
    report.ok("own key", format!("{} is admitted", user_key.unwrap_or_default()));
    let features = match features.as_slice() {
        [] => "without further features".to_owned(),
        features => format!("with {}", features.join(" and ")),
    };
    report.ok("server", format!("it speaks protocol {}, {features}", eternaltcp::VERSION));
}
