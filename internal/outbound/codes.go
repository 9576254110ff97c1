package outbound

// Codes are the codes that an Error may have.
func Codes() []string {
	return []string{
		CodeAddressRefused, CodePlainHTTP, CodeScheme, CodeDNS, CodeRefused, CodeReset, CodeTimeout, CodeConnection,
		CodeTLSVersion, CodeTLSExpired, CodeTLSNotYetValid, CodeTLSSelfSigned, CodeTLSWrongName, CodeTLSIntermediate,
		CodeTLSUnknownCA, CodeTLSClient, CodeTLS, CodePlainHTTPAnswers,
	}
}
