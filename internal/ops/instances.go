package ops

import (
	"context"
	"time"
)

// Instance is a daemon that works on the database. Its JSON form is a public interface.
type Instance struct {
	Instance string `json:"instance"`
	Version  string `json:"version"`
	// Schema is the version of the database's schema that its binary knows; 0 where it does not tell.
	Schema    int               `json:"schema"`
	Live      bool              `json:"live"`
	StartedAt time.Time         `json:"started_at"`
	SeenAt    time.Time         `json:"seen_at"`
	ChangedAt time.Time         `json:"config_changed_at"`
	Digest    string            `json:"config_digest"`
	Payers    map[string]string `json:"payers"`
}

// Instances lists the daemons, the oldest first.
func (d Direct) Instances(ctx context.Context) ([]Instance, error) {
	all, err := d.Store.Instances(ctx)
	if err != nil {
		return nil, err
	}
	instances := make([]Instance, 0, len(all))
	for _, i := range all {
		instances = append(instances, Instance{
			Instance: i.Name(), Version: i.Version, Schema: i.Schema, Live: i.Live, StartedAt: i.StartedAt, SeenAt: i.SeenAt, ChangedAt: i.ChangedAt,
			Digest: i.Digest, Payers: i.Payers,
		})
	}
	return instances, nil
}

// Instances is Direct.Instances.
func (c *Client) Instances(ctx context.Context) ([]Instance, error) {
	var all []Instance
	err := c.get(ctx, "instances", nil, &all)
	return all, err
}

// Mismatches are the payers that live instances have configured differently, or that only some of them have: for each the digests by
// the names of the instances, empty where one has no such payer.
func Mismatches(all []Instance) map[string]map[string]string {
	payers := make(map[string]bool)
	for _, i := range all {
		for payer := range i.Payers {
			payers[payer] = payers[payer] || i.Live
		}
	}
	mismatches := make(map[string]map[string]string)
	for payer, live := range payers {
		if !live {
			continue
		}
		digests, different := make(map[string]string), make(map[string]bool)
		for _, i := range all {
			if i.Live {
				digests[i.Instance] = i.Payers[payer]
				different[i.Payers[payer]] = true
			}
		}
		if len(different) > 1 {
			mismatches[payer] = digests
		}
	}
	return mismatches
}

// Versions are those of live instances, with the names of the instances.
func Versions(all []Instance) map[string][]string {
	versions := make(map[string][]string)
	for _, i := range all {
		if i.Live {
			versions[i.Version] = append(versions[i.Version], i.Instance)
		}
	}
	return versions
}
