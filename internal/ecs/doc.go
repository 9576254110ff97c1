// Package ecs asks Amazon ECS not to choose this task when a service is made smaller or deployed anew, for as long as it is at work: task
// scale-in protection, by the endpoint that the agent of ECS gives to each container (ECS_AGENT_URI).
//
// Work is never kept waiting for it and never fails by it: a task that is stopped all the same goes on from its checkpoint elsewhere. The
// protection has an end, and is renewed before; where work never ends, it is let go in between, so that a deployment comes to its own.
package ecs
