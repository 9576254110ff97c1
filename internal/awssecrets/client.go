package awssecrets

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/arn"
	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/smithy-go"
)

// callTimeout bounds one call with the retries that the SDK makes of it.
const callTimeout = 20 * time.Second

// Options are what a Client needs. The zero value works.
type Options struct {
	// Load returns the SDK's configuration; it is called when the first reference is followed, and again after a failure.
	// Default: the environment, the shared files and the role of the machine, as every AWS SDK reads them.
	Load func(context.Context) (aws.Config, error)
}

// Client asks AWS. It is safe for concurrent use.
type Client struct {
	load func(context.Context) (aws.Config, error)

	mu     sync.Mutex
	loaded *aws.Config
}

// New returns a client that has asked nothing yet.
func New(o Options) *Client {
	c := &Client{load: o.Load}
	if c.load == nil {
		c.load = func(ctx context.Context) (aws.Config, error) { return config.LoadDefaultConfig(ctx) }
	}
	return c
}

// configFor returns the SDK's configuration for the region of a resource.
func (c *Client) configFor(ctx context.Context, resource arn.ARN) (aws.Config, error) {
	loaded, err := c.loadedConfig(ctx)
	if err != nil {
		return aws.Config{}, err
	}
	regional := loaded.Copy()
	regional.Region = resource.Region
	return regional, nil
}

// loadedConfig returns the SDK's configuration, which is loaded once.
func (c *Client) loadedConfig(ctx context.Context) (*aws.Config, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.loaded == nil {
		loaded, err := c.load(ctx)
		if err != nil {
			return nil, fmt.Errorf("load the AWS configuration: %w", err)
		}
		c.loaded = &loaded
	}
	return c.loaded, nil
}

func parseARN(text, service string) (arn.ARN, error) {
	resource, err := arn.Parse(text)
	if err != nil || resource.Service != service || resource.Region == "" {
		return arn.ARN{}, fmt.Errorf("expected an ARN of %s with a region", service)
	}
	return resource, nil
}

// explain adds what an operator can do about a refusal.
func explain(err error, action string) error {
	var refused smithy.APIError
	if !errors.As(err, &refused) {
		return fmt.Errorf("%w (are there AWS credentials, and is the endpoint reachable?)", err)
	}
	switch refused.ErrorCode() {
	case "AccessDenied", "AccessDeniedException":
		return fmt.Errorf("%w (the role must allow %s)", err, action)
	case "UnrecognizedClientException", "InvalidSignatureException", "ExpiredTokenException":
		return fmt.Errorf("%w (the AWS credentials are wrong or expired)", err)
	}
	return err
}
