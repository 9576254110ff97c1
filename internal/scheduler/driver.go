package scheduler

import (
	"github.com/riverqueue/river/riverdriver"
	"github.com/riverqueue/river/riverdriver/riverpgxv5"

	"ingestd/internal/store"
)

// driver lets the job engine work by the pool that may lead to a pooler, and listen by a connection that does not: a LISTEN is
// forgotten with the transaction's session.
type driver struct {
	*riverpgxv5.Driver

	listen *riverpgxv5.Driver
}

func newDriver(s *store.Store) *driver {
	return &driver{Driver: riverpgxv5.New(s.Pool()), listen: riverpgxv5.New(s.ListenPool())}
}

// GetListener implements riverdriver.Driver.
func (d *driver) GetListener(params *riverdriver.GetListenenerParams) riverdriver.Listener {
	return d.listen.GetListener(params)
}
