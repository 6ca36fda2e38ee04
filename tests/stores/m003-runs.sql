BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'line-runs','m001_runs_units_steps_events','2026-11-24 13:06:51.350395+00:00');
INSERT INTO "_sqlite_migrations" VALUES(2,'line-runs','m002_vocabulary_and_model_of_each_step','2026-11-24 13:06:51.363085+00:00');
INSERT INTO "_sqlite_migrations" VALUES(3,'line-runs','m003_evidence_of_each_label','2026-11-24 13:06:51.369798+00:00');
CREATE TABLE "events" (
   "id" INTEGER PRIMARY KEY,
   "run" TEXT NOT NULL REFERENCES "runs"("id"),
   "unit" INTEGER,
   "kind" TEXT NOT NULL,
   "created" REAL NOT NULL,
   "detail" TEXT
);
INSERT INTO "events" VALUES(1,'model-head-1',NULL,'work',1.79552561142573571207e+09,'{"process": 31356}');
INSERT INTO "events" VALUES(2,'model-head-1',0,'unit finished',1.79552561174125885961e+09,'{}');
INSERT INTO "events" VALUES(3,'model-head-1',NULL,'finished',1.79552561174169969561e+09,'{}');
INSERT INTO "events" VALUES(4,'model-head-2',NULL,'work',1.79552561503051829336e+09,'{"process": 31506}');
INSERT INTO "events" VALUES(5,'model-head-2',0,'unit finished',1.79552561521469020841e+09,'{}');
CREATE TABLE "runs" (
   "id" TEXT PRIMARY KEY NOT NULL,
   "model" TEXT NOT NULL,
   "layer" TEXT NOT NULL,
   "seed" INTEGER NOT NULL,
   "status" TEXT NOT NULL,
   "created" REAL NOT NULL,
   "finished" REAL,
   "command" TEXT,
   "settings" TEXT,
   "fingerprints" TEXT,
   "versions" TEXT,
   "error" TEXT
, "vocabulary" TEXT);
INSERT INTO "runs" VALUES('model-head-1','scripted:model','head',0,'finished',1.79552561138559031491e+09,1.79552561174154400825e+09,'line explain','{"seed": 0, "iterations": 2, "summary": true, "images": 2, "top": 1, "random": 1, "random_pool": 0, "patience": 0, "max_iterations": null, "restarts": 0, "scorer": "mean", "modifiers": "per-image", "template": "A realistic photo of a {concept}, {angle}, {lighting}", "llm": "ollama:llama3.1:8b", "context": 4096, "reply_tokens": 512, "timeout": 300.0, "think": "auto", "langchain": {}, "temperature": 0.5, "top_p": 0.9, "retries": 3, "hotter": 0.2, "duplicates": "refuse", "hints": 12, "generator": "sdxl", "diffusion": {"steps": null, "guidance": null, "size": null, "dtype": null, "revision": null, "lora": [], "scheduler": null, "offload": "none", "vae_slicing": null, "vae_tiling": false, "compile": false, "channels_last": null, "batch": null}, "threshold": null, "init": "control", "vocabulary": null, "control": "bank", "control_images": null, "vocabulary_share": 0.3333333333333333, "exclude": [], "exclude_for": {}, "weights": null, "pool": "auto", "precision": "float32", "channels_last": false, "device": "auto", "batch_size": null, "download": false, "in_flight": 1, "llm_parallel": 1, "batch_wait": 0.05, "give_up": 1, "revisit": false}','{"target": "scripted target", "generator": "scripted generator", "language_model": "scripted model", "control": "scripted control"}','{"line-neurons": "0.1.0", "langgraph": "1.2.24", "torch": "2.14.1", "torchvision": "0.29.1", "transformers": "5.23.0", "timm": "1.0.31", "diffusers": "0.42.1", "langchain-ollama": "1.1.0", "xllamacpp": "2026.10.11549", "numpy": "2.4.6", "pillow": "13.0.0"}','',NULL);
INSERT INTO "runs" VALUES('model-head-2','scripted:model','head',0,'running',1.79552561499374771112e+09,NULL,'line explain','{"seed": 0, "iterations": 2, "summary": true, "images": 2, "top": 1, "random": 1, "random_pool": 0, "patience": 0, "max_iterations": null, "restarts": 0, "scorer": "mean", "modifiers": "per-image", "template": "A realistic photo of a {concept}, {angle}, {lighting}", "llm": "ollama:llama3.1:8b", "context": 4096, "reply_tokens": 512, "timeout": 300.0, "think": "auto", "langchain": {}, "temperature": 0.5, "top_p": 0.9, "retries": 3, "hotter": 0.2, "duplicates": "refuse", "hints": 12, "generator": "sdxl", "diffusion": {"steps": null, "guidance": null, "size": null, "dtype": null, "revision": null, "lora": [], "scheduler": null, "offload": "none", "vae_slicing": null, "vae_tiling": false, "compile": false, "channels_last": null, "batch": null}, "threshold": null, "init": "control", "vocabulary": null, "control": "bank", "control_images": null, "vocabulary_share": 0.3333333333333333, "exclude": [], "exclude_for": {}, "weights": null, "pool": "auto", "precision": "float32", "channels_last": false, "device": "auto", "batch_size": null, "download": false, "in_flight": 1, "llm_parallel": 1, "batch_wait": 0.05, "give_up": 1, "revisit": false}','{"target": "scripted target", "generator": "scripted generator", "language_model": "scripted model", "control": "scripted control"}','{"line-neurons": "0.1.0", "langgraph": "1.2.24", "torch": "2.14.1", "torchvision": "0.29.1", "transformers": "5.23.0", "timm": "1.0.31", "diffusers": "0.42.1", "langchain-ollama": "1.1.0", "xllamacpp": "2026.10.11549", "numpy": "2.4.6", "pillow": "13.0.0"}','',NULL);
CREATE TABLE "steps" (
   "run" TEXT REFERENCES "runs"("id"),
   "unit" INTEGER,
   "step" INTEGER,
   "attempt" INTEGER,
   "kind" TEXT NOT NULL,
   "outcome" TEXT NOT NULL,
   "concept" TEXT,
   "score" REAL,
   "reasoning" TEXT,
   "reply" TEXT,
   "origin" TEXT,
   "images" TEXT,
   "board" TEXT,
   "removed" TEXT,
   "seed" INTEGER,
   "temperature" REAL,
   "seconds" REAL,
   "detail" TEXT,
   "created" REAL, "model" TEXT,
   PRIMARY KEY ("run", "unit", "step", "attempt")
);
INSERT INTO "steps" VALUES('model-head-1',0,0,0,'initial','scored','class e',9.90999996662139892578e-01,'','','predefined','["4c81e82ee1ae877810e02e2911409d782a330270c071b925da79b4b36e01aeac", "5abe9af10b0a23a675f2095e6e35756ccf006c4032955ff2dcc69eb068283b68"]','[["class e", 0.9909999966621399], ["class c", 0.03099999949336052]]',NULL,NULL,NULL,NULL,NULL,1.79552561169373083114e+09,NULL);
INSERT INTO "steps" VALUES('model-head-1',0,0,1,'initial','scored','class c',3.09999994933605194091e-02,'','','predefined','["a4d9100a9ef679542fc5f85fd16ff78666d54862951e90c3bcf1e9a63ceb1c4f", "7e742bdc0b04c6b9447151be80a7cb855c7a0db886123a7240e6cef14cdedc3b"]','[["class e", 0.9909999966621399], ["class c", 0.03099999949336052]]',NULL,NULL,NULL,NULL,NULL,1.79552561169374060631e+09,NULL);
INSERT INTO "steps" VALUES('model-head-1',0,1,0,'iteration','scored','thing 401',6.30000010132789611816e-02,'because of thing 401','{"reasoning": "because of thing 401", "concept": "thing 401"}','proposed','["49fcb301383d7940c87ac4c286b8051b3835e1d7ad8f45037426cedf9a8c6826", "0462987e679e14a2481e965cd677dbdb0543d8a546d9398f6fadbe93b2ea38f4"]','[["class e", 0.9909999966621399], ["thing 401", 0.06300000101327896]]','class c',1162817401,0.5,6.99840002198470756411e-05,NULL,1.79552561170744943617e+09,'scripted model');
INSERT INTO "steps" VALUES('model-head-1',0,2,0,'iteration','scored','thing 969',9.90999996662139892578e-01,'because of thing 969','{"reasoning": "because of thing 969", "concept": "thing 969"}','proposed','["446c5c25d71ab7b40a3e9106674e66913d37c076b1479b2e64aa88a913633722", "542e3db3584448a28715975a57d5fb5d5b05d0c625f6b83b460104523f6a5b14"]','[["class e", 0.9909999966621399], ["thing 969", 0.9909999966621399]]','thing 401',1804893969,0.5,5.92930000493652187287e-05,NULL,1.7955256117231702805e+09,'scripted model');
INSERT INTO "steps" VALUES('model-head-1',0,3,0,'summary','scored','thing 731',3.54000002145767211914e-01,'because of thing 731','{"reasoning": "because of thing 731", "concept": "thing 731"}','summary','["07db41c030c1bad91e57b337bc4bc3b7457768d6ca0bbe6557e1aae0e70a3f3d", "db8d4489c93d61e42442fa33dc6b2fda5e0bd14f0ac027b0cc7ff0425d8e59ed"]','[["thing 969", 0.9909999966621399], ["thing 731", 0.3540000021457672]]','class e',1927875731,0.5,5.72529997953097335994e-05,NULL,1.79552561173962163922e+09,'scripted model');
INSERT INTO "steps" VALUES('model-head-2',0,0,0,'initial','scored','class e',9.90999996662139892578e-01,'','','predefined','["4c81e82ee1ae877810e02e2911409d782a330270c071b925da79b4b36e01aeac", "5abe9af10b0a23a675f2095e6e35756ccf006c4032955ff2dcc69eb068283b68"]','[["class e", 0.9909999966621399], ["class c", 0.03099999949336052]]',NULL,NULL,NULL,NULL,NULL,1.79552561509274196619e+09,NULL);
INSERT INTO "steps" VALUES('model-head-2',0,0,1,'initial','scored','class c',3.09999994933605194091e-02,'','','predefined','["a4d9100a9ef679542fc5f85fd16ff78666d54862951e90c3bcf1e9a63ceb1c4f", "7e742bdc0b04c6b9447151be80a7cb855c7a0db886123a7240e6cef14cdedc3b"]','[["class e", 0.9909999966621399], ["class c", 0.03099999949336052]]',NULL,NULL,NULL,NULL,NULL,1.79552561509275245671e+09,NULL);
INSERT INTO "steps" VALUES('model-head-2',0,1,0,'iteration','scored','thing 401',6.30000010132789611816e-02,'because of thing 401','{"reasoning": "because of thing 401", "concept": "thing 401"}','proposed','["49fcb301383d7940c87ac4c286b8051b3835e1d7ad8f45037426cedf9a8c6826", "0462987e679e14a2481e965cd677dbdb0543d8a546d9398f6fadbe93b2ea38f4"]','[["class e", 0.9909999966621399], ["thing 401", 0.06300000101327896]]','class c',1162817401,0.5,8.39560002532380167394e-05,NULL,1.7955256151139588356e+09,'scripted model');
INSERT INTO "steps" VALUES('model-head-2',0,2,0,'iteration','scored','thing 969',9.90999996662139892578e-01,'because of thing 969','{"reasoning": "because of thing 969", "concept": "thing 969"}','proposed','["446c5c25d71ab7b40a3e9106674e66913d37c076b1479b2e64aa88a913633722", "542e3db3584448a28715975a57d5fb5d5b05d0c625f6b83b460104523f6a5b14"]','[["class e", 0.9909999966621399], ["thing 969", 0.9909999966621399]]','thing 401',1804893969,0.5,8.26840000627271365374e-05,NULL,1.79552561520248579979e+09,'scripted model');
INSERT INTO "steps" VALUES('model-head-2',0,3,0,'summary','scored','thing 731',3.54000002145767211914e-01,'because of thing 731','{"reasoning": "because of thing 731", "concept": "thing 731"}','summary','["07db41c030c1bad91e57b337bc4bc3b7457768d6ca0bbe6557e1aae0e70a3f3d", "db8d4489c93d61e42442fa33dc6b2fda5e0bd14f0ac027b0cc7ff0425d8e59ed"]','[["thing 969", 0.9909999966621399], ["thing 731", 0.3540000021457672]]','class e',1927875731,0.5,5.79909997213690076023e-05,NULL,1.79552561520945048326e+09,'scripted model');
INSERT INTO "steps" VALUES('model-head-2',1,0,0,'initial','scored','class e',1.99100005626678466796e+00,'','','predefined','["4c81e82ee1ae877810e02e2911409d782a330270c071b925da79b4b36e01aeac", "5abe9af10b0a23a675f2095e6e35756ccf006c4032955ff2dcc69eb068283b68"]','[["class e", 1.9910000562667847], ["class a", 1.0169999599456787]]',NULL,NULL,NULL,NULL,NULL,1.79552561524639320376e+09,NULL);
INSERT INTO "steps" VALUES('model-head-2',1,0,1,'initial','scored','class a',1.01699995994567871093e+00,'','','predefined','["0a5d0ca01bd4dd07fc1ba1a83474a0a33ff0c3a4fd7bf816c3128c92f45e7d7a", "d9fbfa631e25fd49a0b32e4fd9d5a9530d65c7c3b1cfa36054b406ddefdfbfa6"]','[["class e", 1.9910000562667847], ["class a", 1.0169999599456787]]',NULL,NULL,NULL,NULL,NULL,1.79552561524640274049e+09,NULL);
INSERT INTO "steps" VALUES('model-head-2',1,1,0,'iteration','scored','thing 400',1.73800003528594970703e+00,'because of thing 400','{"reasoning": "because of thing 400", "concept": "thing 400"}','proposed','["26f725fcfe152e8fe96d958d2d20ef0e55fda75c6577083bbbdbad916e67038d", "ddebf636596a835e9a7974f4f8c05c40292fce04584f820ed6b44c66a04ddc71"]','[["class e", 1.9910000562667847], ["thing 400", 1.7380000352859497]]','class a',846502400,0.5,5.09899996359308715909e-05,NULL,1.79552561526710963242e+09,'scripted model');
CREATE TABLE "units" (
   "run" TEXT REFERENCES "runs"("id"),
   "unit" INTEGER,
   "position" INTEGER NOT NULL,
   "name" TEXT,
   "status" TEXT NOT NULL,
   "label" TEXT,
   "score" REAL,
   "origin" TEXT,
   "label_step" INTEGER,
   "discovered" INTEGER,
   "initial_label" TEXT,
   "initial_score" REAL,
   "auc" REAL,
   "mad" REAL,
   "seconds" REAL,
   "error" TEXT, "images" TEXT, "second_label" TEXT, "second_score" REAL, "steps" INTEGER, "found_by" INTEGER, "found_in" TEXT, "search_label" TEXT, "search_score" REAL,
   PRIMARY KEY ("run", "unit")
);
INSERT INTO "units" VALUES('model-head-1',0,0,NULL,'finished','class e',9.90999996662139892578e-01,'predefined',0,0,'class e',9.90999996662139892578e-01,9.5833333333333337034e-01,1.70128212351968866045e+00,7.42539729999407427385e-02,'','["4c81e82ee1ae877810e02e2911409d782a330270c071b925da79b4b36e01aeac", "5abe9af10b0a23a675f2095e6e35756ccf006c4032955ff2dcc69eb068283b68"]','thing 969',9.90999996662139892578e-01,3,NULL,NULL,'class e',9.90999996662139892578e-01);
INSERT INTO "units" VALUES('model-head-2',0,0,NULL,'finished','class e',9.90999996662139892578e-01,'predefined',0,0,'class e',9.90999996662139892578e-01,9.5833333333333337034e-01,1.70128212351968866045e+00,1.33087967999927059281e-01,'','["4c81e82ee1ae877810e02e2911409d782a330270c071b925da79b4b36e01aeac", "5abe9af10b0a23a675f2095e6e35756ccf006c4032955ff2dcc69eb068283b68"]','thing 969',9.90999996662139892578e-01,3,NULL,NULL,'class e',9.90999996662139892578e-01);
INSERT INTO "units" VALUES('model-head-2',1,1,NULL,'running',NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0.0,'','[]',NULL,NULL,NULL,NULL,NULL,NULL,NULL);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX "idx_events_run_id"
    ON "events" ("run", "id");
COMMIT;
