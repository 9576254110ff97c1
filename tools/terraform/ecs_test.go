package terraform

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/ecs/types"
	"github.com/hashicorp/hcl/v2"
	"github.com/hashicorp/hcl/v2/hclsyntax"
	"github.com/hashicorp/hcl/v2/hclwrite"
	"github.com/zclconf/go-cty/cty"
	"github.com/zclconf/go-cty/cty/function"
	"github.com/zclconf/go-cty/cty/function/stdlib"
)

const module = "../../deployments/ecs"

// block is a top-level block with the expressions in it.
type block struct {
	*hclsyntax.Block

	file string
}

// parse reads the blocks of a folder, and reports files that are not formatted as Terraform does.
func parse(t *testing.T, dir string) []block {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(dir, "*.tf"))
	if err != nil || len(names) == 0 {
		t.Fatalf("no Terraform files in %s (%v)", dir, err)
	}
	var all []block
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(hclwrite.Format(text), text) {
			t.Errorf("%s is not formatted: expected\n%s", name, hclwrite.Format(text))
		}
		file, diagnostics := hclsyntax.ParseConfig(text, name, hcl.InitialPos)
		if diagnostics.HasErrors() {
			t.Fatal(diagnostics)
		}
		for _, b := range file.Body.(*hclsyntax.Body).Blocks {
			all = append(all, block{b, name})
		}
	}
	return all
}

// address is how other blocks refer to this one; empty where they cannot.
func (b block) address() string {
	switch b.Type {
	case "variable":
		return "var." + b.Labels[0]
	case "resource":
		return strings.Join(b.Labels, ".")
	case "data", "module":
		return strings.Join(append([]string{b.Type}, b.Labels...), ".")
	}
	return ""
}

// references lists what the expressions of a body refer to, by the first parts of their addresses.
func references(body *hclsyntax.Body) []string {
	var all []string
	_ = hclsyntax.VisitAll(body, func(node hclsyntax.Node) hcl.Diagnostics {
		if traversal, ok := node.(*hclsyntax.ScopeTraversalExpr); ok {
			parts := []string{traversal.Traversal.RootName()}
			for _, step := range traversal.Traversal[1:] {
				attr, ok := step.(hcl.TraverseAttr)
				if !ok {
					break
				}
				parts = append(parts, attr.Name)
			}
			all = append(all, strings.Join(parts, "."))
		}
		return nil
	})
	return all
}

func TestModule_refers_to_nothing_that_is_not_there_and_declares_nothing_in_vain(t *testing.T) {
	for _, dir := range []string{module, module + "/examples/complete"} {
		declared, used := map[string]bool{}, map[string]bool{}
		blocks := parse(t, dir)
		for _, b := range blocks {
			if address := b.address(); address != "" {
				declared[address] = true
			}
			if b.Type == "locals" {
				for name := range b.Body.Attributes {
					declared["local."+name] = true
				}
			}
			if b.Type == "variable" && (b.Body.Attributes["description"] == nil || b.Body.Attributes["type"] == nil) {
				t.Errorf("%s: variable %s has no description, or no type", b.file, b.Labels[0])
			}
		}
		for _, b := range blocks {
			for _, reference := range references(b.Body) {
				parts := strings.Split(reference, ".")
				depth := 2
				switch parts[0] {
				case "string", "number", "bool": // types of variables
					continue
				case "each", "count", "path", "statement", "name", "arn": // of the block, and of for expressions
					continue
				case "data":
					depth = 3
				}
				address := strings.Join(parts[:min(depth, len(parts))], ".")
				if !declared[address] {
					t.Errorf("%s: %s is not declared", b.file, reference)
				}
				if b.address() != address {
					used[address] = true
				}
			}
		}
		for address := range declared {
			if (strings.HasPrefix(address, "var.") || strings.HasPrefix(address, "local.")) && !used[address] {
				t.Errorf("%s: %s is declared and never used", dir, address)
			}
		}
	}
}

func TestExample_gives_the_module_variables_that_it_has_and_all_that_it_needs(t *testing.T) {
	variables := map[string]bool{} // name → required
	for _, b := range parse(t, module) {
		if b.Type == "variable" {
			variables[b.Labels[0]] = b.Body.Attributes["default"] == nil
		}
	}
	for _, b := range parse(t, module+"/examples/complete") {
		if b.Type != "module" {
			continue
		}
		for name := range b.Body.Attributes {
			if _, ok := variables[name]; !ok && name != "source" {
				t.Errorf("the module has no variable %s", name)
			}
		}
		for name, required := range variables {
			if required && b.Body.Attributes[name] == nil {
				t.Errorf("the example gives no %s", name)
			}
		}
	}
}

// What comes out of jsonencode must be container definitions as the ECS API has them, member by member.
func TestTaskDefinition_is_what_the_ECS_API_takes(t *testing.T) {
	object := cty.ObjectVal
	text := cty.StringVal
	context := &hcl.EvalContext{
		Variables: map[string]cty.Value{
			"var": object(map[string]cty.Value{
				"image": text("registry.example/ingestd@sha256:0"), "stop_timeout": cty.NumberIntVal(60), "memory": cty.NumberIntVal(2048),
				"admin_port": cty.NumberIntVal(8090), "configuration": text("payers: []"),
				"environment_secrets": cty.MapVal(map[string]cty.Value{"ADMIN_TOKEN": text("arn:aws:secretsmanager:us-east-1:1:secret:a")}),
			}),
			"aws_cloudwatch_log_group": object(map[string]cty.Value{"this": object(map[string]cty.Value{"name": text("/ecs/ingestd")})}),
			"data": object(map[string]cty.Value{"aws_region": object(map[string]cty.Value{
				"current": object(map[string]cty.Value{"name": text("us-east-1")}),
			})}),
		},
		Functions: map[string]function.Function{"jsonencode": stdlib.JSONEncodeFunc, "floor": stdlib.FloorFunc},
	}
	for _, b := range parse(t, module) {
		if b.Type != "resource" || b.Labels[0] != "aws_ecs_task_definition" {
			continue
		}
		value, diagnostics := b.Body.Attributes["container_definitions"].Expr.Value(context)
		if diagnostics.HasErrors() {
			t.Fatal(diagnostics)
		}
		var containers []types.ContainerDefinition
		decoder := json.NewDecoder(strings.NewReader(value.AsString()))
		decoder.DisallowUnknownFields()
		if err := decoder.Decode(&containers); err != nil {
			t.Fatalf("%v in %s", err, value.AsString())
		}
		c := containers[0]
		if len(containers) != 1 || *c.Name != "ingestd" || !*c.ReadonlyRootFilesystem || *c.User != "65532:65532" || *c.StopTimeout != 60 {
			t.Errorf("got %s", value.AsString())
		}
		if len(c.Environment) != 2 || *c.Environment[1].Value != "1740MiB" || len(c.Secrets) != 1 {
			t.Errorf("got the environment %v and secrets %v", c.Environment, c.Secrets)
		}
		return
	}
	t.Error("there is no task definition")
}
