package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"strings"

	"github.com/spf13/cobra"

	"ingestd/internal/config"
	"ingestd/internal/daemon"
	"ingestd/internal/smartauth"
)

func newKeysCommand() *cobra.Command {
	keys := &cobra.Command{
		Use:   "keys",
		Short: "Generate signing keys and print their public halves",
	}
	keys.AddCommand(newKeysGenerateCommand(), newKeysJWKSCommand(), newKeysListCommand())
	return keys
}

func newKeysGenerateCommand() *cobra.Command {
	var out, algorithm, kid string
	command := &cobra.Command{
		Use:   "generate --out FILE",
		Short: "Write a new private key and print its kid",
		Long: `Writes a new private key to a file that only its owner can read, and prints its kid. The kid also stands in the file, above
the key, so that 'ingestd keys jwks --key FILE' prints it again. A file that exists is not overwritten.`,
		Example: `  ingestd keys generate --out /etc/ingestd/keys/2026-11.pem --kid 2026-11`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if out == "" {
				return usageError{errors.New("--out is missing: the file to write the private key to")}
			}
			key, err := smartauth.GenerateKey(algorithm, kid)
			if err != nil {
				return usageError{err}
			}
			if err := smartauth.WriteKeyFile(out, key); err != nil {
				if errors.Is(err, fs.ErrExist) {
					return usageError{fmt.Errorf("%s exists and is not overwritten: payers may trust the key in it", out)}
				}
				return err
			}
			return printLine(cmd.OutOrStdout(), key.ID())
		},
	}
	flags := command.Flags()
	flags.StringVar(&out, "out", "", "file to write the private key to (required)")
	flags.StringVar(&algorithm, "algorithm", "ES384", "RS256, RS384, RS512, ES256, ES384 or ES512")
	flags.StringVar(&kid, "kid", "", "the key's id (default: its RFC 7638 thumbprint)")
	return command
}

func newKeysJWKSCommand() *cobra.Command {
	var files []string
	var configFile, kid string
	command := &cobra.Command{
		Use:   "jwks (--config FILE | --key FILE...)",
		Short: "Print the public JWK Set, to register or host",
		Long: `Prints the public halves of the configured keys, or of single files, as a JWK Set: what a payer's portal takes, and what a
JWKS URL serves. No private member is ever in it.`,
		Example: `  ingestd keys jwks --config /etc/ingestd/ingestd.yaml
  ingestd keys jwks --key /etc/ingestd/keys/2026-11.pem`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if (configFile == "") == (len(files) == 0) {
				return usageError{errors.New("give either --config, for all keys of a configuration, or --key, for single files")}
			}
			if kid != "" && len(files) != 1 {
				return usageError{errors.New("--kid names one key: give one --key with it")}
			}
			keys, err := keysFor(cmd.Context(), configFile, files, kid)
			if err != nil {
				return usageError{err}
			}
			return printJWKS(cmd.OutOrStdout(), keys)
		},
	}
	flags := command.Flags()
	flags.StringVar(&configFile, "config", "", "configuration whose keys are printed")
	flags.StringArrayVar(&files, "key", nil, "file of a private key; give it again for further keys")
	flags.StringVar(&kid, "kid", "", "the kid to print for a single key (default: the one in the file, else the RFC 7638 thumbprint)")
	return command
}

func newKeysListCommand() *cobra.Command {
	var configFile string
	var output *format
	command := &cobra.Command{
		Use:     "list --config FILE",
		Short:   "List the configured keys and the payers that they sign for",
		Example: `  ingestd keys list --config /etc/ingestd/ingestd.yaml`,
		Args:    cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if configFile == "" {
				return usageError{errors.New("--config is missing: the configuration whose keys are listed")}
			}
			c, err := loadConfig(configFile)
			if err != nil {
				return err
			}
			ring, err := daemon.OpenKeys(cmd.Context(), c.Keys, nil)
			if err != nil {
				return usageError{err}
			}
			keys := listedKeys(c, ring.Published())
			return printList(cmd.OutOrStdout(), output, keys, func() *table { return keyTable(keys) })
		},
	}
	command.Flags().StringVar(&configFile, "config", "", "configuration whose keys are listed")
	output = addListOutput(command)
	return command
}

// keysFor loads the keys of a configuration, or those of single files.
func keysFor(ctx context.Context, configFile string, files []string, kid string) ([]*smartauth.Key, error) {
	if configFile == "" {
		return readKeyFiles(files, kid)
	}
	c, err := loadConfig(configFile)
	if err != nil {
		return nil, err
	}
	ring, err := daemon.OpenKeys(ctx, c.Keys, nil)
	if err != nil {
		return nil, err
	}
	return ring.Published(), nil
}

// listedKey is a key as it is listed.
type listedKey struct {
	Kid        string   `json:"kid"`
	Algorithm  string   `json:"algorithm"`
	State      string   `json:"state"`
	Thumbprint string   `json:"thumbprint"`
	Payers     []string `json:"payers"`
}

// listedKeys are the keys with the payers that they sign for, in the order of the configuration.
func listedKeys(c *config.Config, keys []*smartauth.Key) []listedKey {
	listed := make([]listedKey, len(keys))
	for i, key := range keys {
		listed[i] = listedKey{
			Kid: key.ID(), Algorithm: key.Algorithm(), State: c.Keys[i].State, Thumbprint: key.Thumbprint(), Payers: []string{},
		}
		for _, payer := range c.Payers {
			if payer.Auth.Key == key.ID() {
				listed[i].Payers = append(listed[i].Payers, payer.Name)
			}
		}
	}
	return listed
}

func keyTable(keys []listedKey) *table {
	t := newTable("KID", "ALGORITHM", "STATE", "THUMBPRINT", "PAYERS")
	for _, k := range keys {
		t.row(k.Kid, k.Algorithm, k.State, k.Thumbprint, strings.Join(k.Payers, ","))
	}
	return t
}

func readKeyFiles(files []string, kid string) ([]*smartauth.Key, error) {
	keys := make([]*smartauth.Key, 0, len(files))
	for _, file := range files {
		data, err := smartauth.ReadKeyFile(file)
		if err != nil {
			return nil, err
		}
		key, err := smartauth.ParseKey(kid, "", data)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

func printJWKS(out io.Writer, keys []*smartauth.Key) error {
	set, err := smartauth.NewJWKS(keys...)
	if err != nil {
		return usageError{err}
	}
	if _, err := out.Write(set); err != nil {
		return fmt.Errorf("write the JWK Set: %w", err)
	}
	return nil
}

func printLine(out io.Writer, line string) error {
	if _, err := fmt.Fprintln(out, line); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	return nil
}
