package notify

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// SignatureHeader carries when an event was sent, and the signature: t=SECONDS,v1=HEX. The signature is HMAC-SHA256, by the
// target's secret, of the seconds as they stand there, a dot, and the body.
const SignatureHeader = "Ingestd-Signature"

// EventHeader carries the event's id.
const EventHeader = "Ingestd-Event"

// Tolerance is how old a signature may be, and how far in the future, before a receiver should take it for a replay.
const Tolerance = 5 * time.Minute

// Sign returns the value of SignatureHeader for a body that is sent now.
func Sign(secret, body []byte, now time.Time) string {
	seconds := strconv.FormatInt(now.Unix(), 10)
	return "t=" + seconds + ",v1=" + hex.EncodeToString(signature(secret, seconds, body))
}

func signature(secret []byte, seconds string, body []byte) []byte {
	mac := hmac.New(sha256.New, secret)
	mac.Write([]byte(seconds + "."))
	mac.Write(body)
	return mac.Sum(nil)
}

// Verify is what a receiver does with the value of SignatureHeader: the body is from who knows the secret, and was sent within
// Tolerance of now. Members of the header that it does not know are ignored, and of several signatures one has to fit.
func Verify(secret []byte, header string, body []byte, now time.Time) error {
	var seconds string
	var signatures [][]byte
	for member := range strings.SplitSeq(header, ",") {
		switch name, value, _ := strings.Cut(strings.TrimSpace(member), "="); name {
		case "t":
			seconds = value
		case "v1":
			if sum, err := hex.DecodeString(value); err == nil {
				signatures = append(signatures, sum)
			}
		}
	}
	sent, err := strconv.ParseInt(seconds, 10, 64)
	if err != nil {
		return fmt.Errorf("verify a notification: %s has no time: expected t=SECONDS,v1=HEX", SignatureHeader)
	}
	if age := now.Sub(time.Unix(sent, 0)); age.Abs() > Tolerance {
		return fmt.Errorf("verify a notification: it was sent %s ago: expected at most %s, it may be a replay", age.Round(time.Second), Tolerance)
	}
	want := signature(secret, seconds, body)
	for _, sum := range signatures {
		if hmac.Equal(sum, want) {
			return nil
		}
	}
	return errors.New("verify a notification: the signature is not that of this body by this secret")
}
