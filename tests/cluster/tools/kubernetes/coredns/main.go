// CoreDNS of those plugins that the Corefile of the cluster for tests names (tests/cluster/programs/node_files.py).
// All that it has would bring the client libraries of three clouds, minutes of compilation.
// A Corefile that names another plugin is refused at start, by name: then it is added here.
package main

import (
	_ "github.com/coredns/coredns/plugin/bind"
	_ "github.com/coredns/coredns/plugin/cache"
	_ "github.com/coredns/coredns/plugin/errors"
	_ "github.com/coredns/coredns/plugin/kubernetes"
	_ "github.com/coredns/coredns/plugin/log"
	_ "github.com/coredns/coredns/plugin/ready"
	_ "github.com/coredns/coredns/plugin/template"

	"github.com/coredns/coredns/coremain"
)

func main() {
	coremain.Run()
}
