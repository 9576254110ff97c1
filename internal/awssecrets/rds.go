package awssecrets

import (
	"context"
	"errors"
	"fmt"
	"net"

	"github.com/aws/aws-sdk-go-v2/feature/rds/auth"
)

// DatabaseToken returns what a database user signs in to RDS with in place of a password: a signed statement of who connects to where, good
// for 15 minutes, for connections that begin in them. It asks AWS for nothing but credentials. The region is the SDK's where it is empty.
func (c *Client) DatabaseToken(ctx context.Context, region, host, port, user string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	loaded, err := c.loadedConfig(ctx)
	if err != nil {
		return "", err
	}
	if region == "" {
		region = loaded.Region
	}
	if region == "" {
		return "", errors.New("sign a token for the database: the region is not known: set database.region, or AWS_REGION")
	}
	token, err := auth.BuildAuthToken(ctx, net.JoinHostPort(host, port), region, user, loaded.Credentials)
	if err != nil {
		return "", explain(fmt.Errorf("sign a token for the database: %w", err), "rds-db:connect")
	}
	return token, nil
}
