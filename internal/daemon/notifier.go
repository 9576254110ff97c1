package daemon

import (
	"ingestd/internal/config"
	"ingestd/internal/notify"
)

// NewNotifier returns what sends notifications to the configured targets; nil secrets ask AWS as every AWS SDK does. It fails
// where a target's own template does not fit the events.
func NewNotifier(c *config.Config, secrets *Secrets, version string) (*notify.Sender, error) {
	if secrets == nil {
		secrets = NewSecrets(nil)
	}
	return notify.New(notify.Options{Targets: c.Notify, Resolve: secrets.Resolve, Version: version})
}
