package awssecrets

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/secretsmanager"
)

// Secret returns the current version of a secret: ARN for the whole of it, ARN#member for one member of the JSON object
// that it holds. It asks anew each time, so that a rotated secret is found. Errors name the reference, never the value.
func (c *Client) Secret(ctx context.Context, name string) ([]byte, error) {
	id, member, part := strings.Cut(name, "#")
	value, err := c.secret(ctx, id)
	if err == nil && part {
		value, err = memberOf(value, member)
	}
	if err == nil && len(value) == 0 {
		err = errors.New("is empty")
	}
	if err != nil {
		return nil, fmt.Errorf("aws-secretsmanager:%s: %w", name, err)
	}
	return value, nil
}

func (c *Client) secret(ctx context.Context, id string) ([]byte, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	resource, err := parseARN(id, "secretsmanager")
	if err != nil {
		return nil, err
	}
	regional, err := c.configFor(ctx, resource)
	if err != nil {
		return nil, err
	}
	answer, err := secretsmanager.NewFromConfig(regional).GetSecretValue(ctx, &secretsmanager.GetSecretValueInput{
		SecretId: aws.String(id),
	})
	if err != nil {
		return nil, explain(err, "secretsmanager:GetSecretValue on it")
	}
	if answer.SecretString != nil {
		return []byte(*answer.SecretString), nil
	}
	return answer.SecretBinary, nil
}

// memberOf returns a member of a JSON object: a string's content, or a number as it is written. Its errors do not wrap those
// of the JSON library, which quote what they read.
func memberOf(object []byte, name string) ([]byte, error) {
	var members map[string]json.RawMessage
	if json.Unmarshal(object, &members) != nil {
		return nil, errors.New("is no JSON object, so it has no members: leave out the # and what follows")
	}
	raw, ok := members[name]
	if !ok {
		return nil, errors.New("the JSON object has no such member")
	}
	var text string
	if json.Unmarshal(raw, &text) == nil {
		return []byte(text), nil
	}
	var number json.Number
	if json.Unmarshal(raw, &number) == nil {
		return []byte(number), nil
	}
	return nil, errors.New("the member is neither a string nor a number")
}
