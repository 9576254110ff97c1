package config

// profiles are what is known of the servers that payers run, by name: the one place where that knowledge is kept. A value
// stands here only where it differs from the built-in default, or where a file's defaults must not change it.
//
// The servers' own sources, documentation and issue threads say so; where only others' clients do, the reason says that.
var profiles = []Profile{
	{
		Name: "ab2d", Title: "CMS AB2D (Medicare claims for Part D sponsors)",
		Settings: []Setting{
			methodBasic("Its identity provider issues an id and a secret, and takes them by HTTP Basic."),
			{
				Key: "auth.scopes", Value: "[clientCreds]", needs: &need{"auth.method", "client_secret_basic"},
				Reason: "The one scope that its identity provider knows.",
			},
			{Key: "export.level", Value: "patient", Reason: "Its exports are asked for at `Patient/$export`."},
			{Key: "export.types", Value: "[ExplanationOfBenefit]", Reason: "It has no other type."},
			methodGet("It takes no other kick-off."),
			{
				Key: "export.full_since", Value: "2020-02-13T05:00:00Z",
				Reason: "Without `_since`, version 2 goes on from the last job whose files were all read, which is no full export; " +
					"it takes nothing earlier than the midnight of this day, US Eastern time.",
			},
			{Key: "export.timeout", Value: "36h", Reason: "It gives up a job by itself after 30 hours, and then says so."},
			{Key: "limits.downloads_per_file", Value: "6", Reason: "After six whole reads of a file it answers 500."},
			{Key: "limits.poll_min", Value: "10s", Reason: "It refuses a poll within the 5 s that it names, or soon after."},
		},
		Notes: []string{
			"The addresses that requests leave from are registered with the payer: all instances need one of them.",
			"Version 3 takes no `_since` before 2026-04-01: set `export.full_since: \"2026-04-01T04:00:00Z\"` there.",
			"Version 1 serves FHIR STU3, version 2 and later R4: another version is another payer.",
		},
	},
	{
		Name: "azure", Title: "Azure Health Data Services, Microsoft FHIR server",
		Settings: []Setting{
			{
				Key: "auth.method", Value: "client_secret_post",
				Reason: "Entra ID takes the secret of a service client in the form.",
			},
			methodGet("It takes no other kick-off."),
			{
				Key: "export.timeout", Value: "72h",
				Reason: "Large exports take days; a job that is stuck stays at 202 for ever, as issue threads tell.",
			},
			{Key: "limits.downloads", Value: "8", Reason: "It writes 5,000 resources a file: files are many, and small."},
			{Key: "limits.poll_min", Value: "15s", Reason: "Its jobs are picked up by a background worker, and no export is done sooner."},
		},
		Notes: []string{
			"Set `auth.token_url` to `https://login.microsoftonline.com/TENANT/oauth2/v2.0/token`, and `auth.scopes` to the FHIR URL " +
				"with `/.default` behind it: it knows no `system/` scopes unless SMART is set up.",
			"Files lie in the payer's blob storage, which the token does not open: the payer has to put signed URLs into the manifest, " +
				"or a front before the storage. List such a host under `download_hosts`.",
			"A resource may come several times in one export: that is expected, and costs nothing.",
		},
	},
	{
		Name: "bcda", Title: "CMS BCDA (Medicare claims for ACOs)",
		Settings: []Setting{
			methodBasic("It issues an id and a secret, and takes them by HTTP Basic at `/auth/token`."),
			{
				Key: "export.level", Value: "group",
				Reason: "An incremental export of `Group/all` brings the whole history of newly attributed patients, one at level " +
					"`patient` does not.",
			},
			{
				Key: "export.group_id", Value: "all", needs: &need{"export.level", "group"},
				Reason: "The group of all that are attributed; `runout` is the other.",
			},
			methodGet("It takes no other kick-off."),
			{
				Key: "export.newcomers", Value: "ignore", needs: &need{"export.group_id", "all"},
				Reason: "The history of those who are new comes with the export; single patients cannot be asked for.",
			},
			{
				Key: "limits.downloads", Value: "8",
				Reason: "A claims file holds 50 patients: files are many, and small.",
			},
			{Key: "limits.requests_per_second", Value: "8", Reason: "It takes 3,000 requests in 5 minutes from one address."},
			{Key: "limits.poll_min", Value: "30s", Reason: "It names no time to the next poll, and each counts as a request."},
		},
		Notes: []string{
			"The secret is changed every 90 days.",
			"Patients who opt out vanish without being told: set `export.full_schedule`.",
			"Versions differ in the ids of resources, and version 1 serves FHIR STU3: another version is another payer.",
			"`export.elements` is refused, and a `_typeFilter` only version 3 heeds.",
		},
	},
	{
		Name: "dpc", Title: "CMS DPC (Medicare claims at the point of care)",
		Settings: []Setting{
			methodJWT("It takes no secrets."),
			{
				Key: "auth.scopes", Value: "[\"system/*.*\"]", needs: &need{"auth.method", "private_key_jwt"},
				Reason: "It accepts exactly this.",
			},
			{Key: "export.level", Value: "group", Reason: "It exports groups only: a provider's roster."},
			methodGet("It takes no other kick-off."),
			newcomersFull(),
			{Key: "export.handling", Value: "none", Reason: "It refuses every preference but `respond-async`."},
			{Key: "export.separate_status", Value: "false", Reason: "It refuses every preference but `respond-async`."},
			{Key: "limits.poll_min", Value: "30s", Reason: "It names no time to the next poll."},
		},
		Notes: []string{
			"`auth.client_id` is the client token, however long; `auth.kid` the UUID that the portal gave the key.",
			"An empty group is answered by 406, which waits for the next run. The roster has to be renewed elsewhere.",
		},
	},
	{
		Name: "epic", Title: "Epic",
		Settings: []Setting{
			methodJWT("It takes no secrets for backend services."),
			{Key: "export.level", Value: "group", Reason: "It exports groups only."},
			methodGet("The form that all of its versions take."),
			{
				Key: "export.since", Value: "never",
				Reason: "Resources carry no usable `lastUpdated`, as other clients tell; unchanged ones cost next to nothing.",
			},
			{Key: "export.timeout", Value: "504h", Reason: "Waits of weeks were seen, and nothing can be had before all is ready."},
			{Key: "limits.poll_min", Value: "1m", Reason: "Exports take hours to weeks."},
			{Key: "limits.poll_max", Value: "1h", Reason: "Exports take hours to weeks."},
		},
		Notes: []string{
			"Sites may want the client id in a header: `export.headers: {Epic-Client-ID: …}`.",
			"It allows one export for each client and group: a job that is left over blocks the next.",
			"It reads the keys from a URL: set `jwks.url`, and let `ingestd doctor` look at it.",
		},
	},
	{
		Name: "hapi", Title: "HAPI FHIR, and servers made of it",
		Settings: []Setting{
			methodGet("The form that all of its versions take."),
			{
				Key: "limits.poll_max", Value: "1m",
				Reason: "Its files may be gone two hours after the export: a finished one has to be seen soon.",
			},
		},
		Notes: []string{
			"Whether a token is wanted is the operator's choice: `auth.method: none` where there is none.",
			"A repeated kick-off may be answered with an old job, unless the operator switched reuse off.",
		},
	},
	{
		Name: "oracle", Aliases: []string{"cerner"}, Title: "Oracle Health (Cerner)",
		Settings: []Setting{
			methodJWT("System accounts sign; it takes no secrets for them."),
			{Key: "export.level", Value: "group", Reason: "It exports groups only."},
			methodGet("It takes no other kick-off."),
			newcomersFull(),
			{Key: "export.timeout", Value: "72h", Reason: "Exports take hours to days."},
			{Key: "limits.downloads", Value: "8", Reason: "Small files come by the ten thousand, one for each patient."},
			{Key: "limits.poll_min", Value: "1m", Reason: "It names 10 minutes to the next poll."},
			{Key: "limits.poll_max", Value: "15m", Reason: "It names 10 minutes to the next poll, and up to hours."},
		},
		Notes: []string{
			"It allows one export for each client and tenant: another one waits.",
			"`export.elements` and `export.patients` are refused, and a type may have one filter only.",
			"Files are fetched from presigned URLs on another host, without the token: that needs no setting.",
		},
	},
	{
		Name: "smart", Title: "SMART Health IT's reference server",
		Settings: []Setting{
			methodJWT("It issues client ids for keys only."),
			methodGet("The form that it always takes."),
			{Key: "export.partial_manifests", Value: "true", Reason: "It writes manifests in pages, to try that with."},
			{Key: "export.timeout", Value: "1h", Reason: "Its files are kept for 60 minutes."},
			{Key: "limits.poll_min", Value: "1s", Reason: "Its exports take seconds."},
			{Key: "limits.poll_max", Value: "15s", Reason: "Its exports take seconds."},
		},
		Notes: []string{"A peer for trials, with invented data."},
	},
}

func methodGet(reason string) Setting {
	return Setting{Key: "export.method", Value: "get", Reason: reason}
}

func newcomersFull() Setting {
	return Setting{
		Key: "export.newcomers", Value: "full",
		Reason: "Single patients cannot be asked for: whoever joins the group makes the next export a full one.",
	}
}

func methodBasic(reason string) Setting {
	return Setting{Key: "auth.method", Value: "client_secret_basic", Reason: reason}
}

func methodJWT(reason string) Setting {
	return Setting{Key: "auth.method", Value: "private_key_jwt", Reason: reason}
}
