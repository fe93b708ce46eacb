//! What a TLS error towards a broker means to a person.

/// What a TLS error of a connection means, and what a person can do.
pub(super) fn explained(error: &rustls::Error) -> (String, &'static str) {
    (format!("TLS: {error}"), remedy(error))
}

/// What a person can do about a TLS error of a connection.
fn remedy(error: &rustls::Error) -> &'static str {
    use rustls::{AlertDescription as Alert, CertificateError as Certificate, Error};
    match error {
        Error::InvalidCertificate(Certificate::Expired | Certificate::ExpiredContext { .. }) => {
            "the broker's certificate has expired by this box's clock: renew it, or check the clock"
        }
        Error::InvalidCertificate(Certificate::NotValidYet | Certificate::NotValidYetContext { .. }) => {
            "the broker's certificate is not valid yet by this box's clock: check the clock (NTP, RTC battery)"
        }
        Error::InvalidCertificate(Certificate::UnknownIssuer) => {
            "the broker's certificate is not signed by [uplink.tls] ca: give the gateway the right CA"
        }
        Error::InvalidCertificate(Certificate::NotValidForName | Certificate::NotValidForNameContext { .. }) => {
            "the broker's certificate is for another name: write that name into [uplink] brokers, or reissue it"
        }
        Error::AlertReceived(Alert::CertificateRequired) => "the broker wants a client certificate and got none",
        Error::AlertReceived(Alert::UnknownCA) => {
            "the broker does not know the CA of this gateway's certificate: add it at the broker"
        }
        Error::AlertReceived(Alert::CertificateExpired) => "this gateway's certificate has expired: renew it",
        Error::AlertReceived(Alert::CertificateRevoked) => "this gateway's certificate was revoked: issue a new one",
        Error::AlertReceived(Alert::BadCertificate | Alert::CertificateUnknown | Alert::AccessDenied) => {
            "the broker refuses this gateway's certificate: look into the broker's log"
        }
        Error::AlertReceived(Alert::ProtocolVersion) => "the broker must offer TLS 1.3",
        Error::InvalidMessage(_) => {
            "check that the port speaks TLS: for one that does not, write mqtt:// (ws://) in [uplink] brokers"
        }
        _ => "look into the broker's log, and check that the port speaks TLS",
    }
}
